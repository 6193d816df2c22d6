resource "weft_security_group" "closed" {
  name             = "closed"
  allow_all_egress = false
}

resource "weft_security_group_egress_rule" "dns" {
  security_group_id = weft_security_group.closed.id
  ip_protocol       = "udp"
  from_port         = 53
  to_port           = 53
  cidr_ipv4         = "10.0.0.53/32"
}
