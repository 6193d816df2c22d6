resource "weft_volume_attachment" "data" {
  instance_id = weft_instance.web.id
  volume_id   = weft_volume.data.id
}
