# terraform apply -invoke=action.weft_volume_snapshot.data
action "weft_volume_snapshot" "data" {
  config {
    volume_id   = weft_volume.data.id
    description = "by hand"
  }
}

resource "weft_volume" "data" {
  name     = "data"
  size_gib = 20
}
