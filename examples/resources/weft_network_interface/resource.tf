resource "weft_network_interface" "back" {
  name       = "back"
  subnet_id  = weft_subnet.private.id
  private_ip = "10.0.1.20"
}
