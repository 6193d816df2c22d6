list "weft_port_forward" "web" {
  provider = weft

  config {
    tags = { layer = "front" }
  }
}
