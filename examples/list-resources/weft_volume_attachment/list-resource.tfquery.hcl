list "weft_volume_attachment" "of_web" {
  provider = weft

  config {
    instance_id = "i-0123456789abcdef0"
  }
}
