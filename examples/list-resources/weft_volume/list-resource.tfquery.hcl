list "weft_volume" "data" {
  provider = weft

  config {
    tags = { layer = "data" }
  }
}
