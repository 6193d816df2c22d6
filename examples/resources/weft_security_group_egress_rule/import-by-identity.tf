import {
  to = weft_security_group_egress_rule.dns
  identity = {
    id = "sgr-0123456789abcdef0"
  }
}
