list "weft_image" "debian" {
  provider = weft

  config {
    name_regex = "^debian"
  }
}
