data "weft_port_forward" "web" {
  name = "web"
}

output "port" {
  value = data.weft_port_forward.web.host_port
}
