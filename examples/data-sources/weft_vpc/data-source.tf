# The VPC that the host has from the start.
data "weft_vpc" "default" {
  default = true
}

# One that another configuration has made.
data "weft_vpc" "office" {
  name = "office"
}

resource "weft_security_group" "web" {
  name   = "web"
  vpc_id = data.weft_vpc.office.id
}
