list "weft_key_pair" "me" {
  provider = weft

  config {
    key_name = "me"
  }
}
