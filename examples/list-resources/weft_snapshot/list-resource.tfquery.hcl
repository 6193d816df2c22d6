list "weft_snapshot" "data" {
  provider = weft

  config {
    volume_id = "vol-0123456789abcdef0"
  }
}
