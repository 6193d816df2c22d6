list "weft_elastic_ip_association" "of_web" {
  provider = weft

  config {
    instance_id = "i-0123456789abcdef0"
  }
}
