list "weft_security_group_ingress_rule" "web" {
  provider = weft

  config {
    security_group_id = "sg-0123456789abcdef0"
  }
}
