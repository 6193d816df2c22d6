resource "weft_network_interface_attachment" "back" {
  instance_id          = weft_instance.web.id
  network_interface_id = weft_network_interface.back.id
}
