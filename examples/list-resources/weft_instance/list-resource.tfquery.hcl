list "weft_instance" "web" {
  provider = weft

  config {
    subnet_id  = "subnet-0123456789abcdef0"
    name_regex = "^web-"
  }
}
