data "weft_instances" "web" {
  tags   = { role = "web" }
  states = ["running"]
}

output "web_addresses" {
  value = data.weft_instances.web.instances[*].private_ip
}
