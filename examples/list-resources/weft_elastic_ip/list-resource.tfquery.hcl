list "weft_elastic_ip" "front" {
  provider = weft

  config {
    tags = { layer = "front" }
  }
}
