list "weft_security_group" "lab" {
  provider = weft

  config {
    vpc_id = "vpc-0123456789abcdef0"
  }
}
