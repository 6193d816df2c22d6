list "weft_vpc" "lab" {
  provider = weft

  config {
    name_regex = "^lab"
  }
}
