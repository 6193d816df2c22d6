data "weft_prefix_list" "offices" {
  name = "offices"
}

resource "weft_security_group_ingress_rule" "https" {
  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  prefix_list_id    = data.weft_prefix_list.offices.id
}
