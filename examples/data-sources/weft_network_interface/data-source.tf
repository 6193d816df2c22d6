data "weft_network_interface" "back" {
  name = "back"
}

output "address" {
  value = data.weft_network_interface.back.private_ip
}
