resource "weft_prefix_list" "offices" {
  name           = "offices"
  address_family = "IPv4"
  entries = [
    { cidr = "192.0.2.0/24", description = "Bern" },
    { cidr = "198.51.100.0/25", description = "Lyon" },
  ]
}

resource "weft_security_group_ingress_rule" "ssh" {
  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  prefix_list_id    = weft_prefix_list.offices.id
}
