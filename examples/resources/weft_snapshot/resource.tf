resource "weft_snapshot" "nightly" {
  instance_id = weft_instance.web.id
  description = "before the upgrade"
  tags        = { Purpose = "backup" }
}

resource "weft_snapshot" "data" {
  volume_id   = weft_volume.data.id
  description = "nightly"
}
