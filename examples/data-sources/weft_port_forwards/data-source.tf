data "weft_port_forwards" "all" {}

output "open_ports" {
  value = data.weft_port_forwards.all.port_forwards[*].host_port
}
