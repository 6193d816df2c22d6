list "weft_network_interface_attachment" "of_web" {
  provider = weft

  config {
    instance_id = "i-0123456789abcdef0"
  }
}
