import {
  to = weft_security_group_ingress_rule.https
  identity = {
    id = "sgr-0123456789abcdef0"
  }
}
