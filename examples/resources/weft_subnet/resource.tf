resource "weft_subnet" "web" {
  name       = "web"
  vpc_id     = weft_vpc.lab.id
  cidr_block = cidrsubnet(weft_vpc.lab.cidr_block, 8, 1)
}

# The part of the office's LAN that its own DHCP server leaves alone.
resource "weft_subnet" "desks" {
  name        = "desks"
  vpc_id      = weft_vpc.office.id
  cidr_block  = "192.168.1.128/26"
  gateway_ip  = "192.168.1.1"
  dns_servers = ["192.168.1.1"]
}
