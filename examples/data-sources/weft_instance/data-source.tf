data "weft_instance" "web" {
  name = "web-1"
}

output "state" {
  value = data.weft_instance.web.state
}
