# What the private subnet's instances send out of the VPC goes to an instance that is a NAT; the
# partner's network is reached from nowhere.
resource "weft_route_table" "private" {
  name   = "private"
  vpc_id = weft_vpc.lab.id
  routes = [
    { cidr_block = "0.0.0.0/0", instance_id = weft_instance.nat.id },
    { cidr_block = "198.51.100.0/24", blackhole = true },
  ]
}
