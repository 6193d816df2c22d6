data "weft_vpc" "app" {
  name = "app"
}

# The group of instances that name none; each VPC has one.
data "weft_security_group" "default" {
  vpc_id = data.weft_vpc.app.id
  name   = "default"
}

resource "weft_security_group_ingress_rule" "ssh" {
  security_group_id = data.weft_security_group.default.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = "192.0.2.0/24"
}
