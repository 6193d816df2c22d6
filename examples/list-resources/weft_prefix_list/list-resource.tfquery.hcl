list "weft_prefix_list" "offices" {
  provider = weft

  config {
    name_regex = "office"
  }
}
