resource "weft_security_group" "web" {
  name = "web"
}

resource "weft_security_group_ingress_rule" "https" {
  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

# Everything from the group's own members.
resource "weft_security_group_ingress_rule" "members" {
  security_group_id            = weft_security_group.web.id
  ip_protocol                  = "-1"
  referenced_security_group_id = weft_security_group.web.id
}

# Ping: for ICMP the ports are type and code.
resource "weft_security_group_ingress_rule" "ping" {
  security_group_id = weft_security_group.web.id
  ip_protocol       = "icmp"
  from_port         = 8
  to_port           = -1
  cidr_ipv4         = "10.0.0.0/8"
}

# IPv6 has ranges of its own.
resource "weft_security_group_ingress_rule" "https_ipv6" {
  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv6         = "::/0"
}
