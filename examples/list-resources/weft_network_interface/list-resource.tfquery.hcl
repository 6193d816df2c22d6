list "weft_network_interface" "back" {
  provider = weft

  config {
    security_group_id = "sg-0123456789abcdef0"
  }
}
