data "weft_network_interfaces" "virtual" {
  name_regex = "^virtual-"
}

output "virtual_addresses" {
  value = data.weft_network_interfaces.virtual.network_interfaces[*].private_ip
}
