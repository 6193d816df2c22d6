resource "weft_vpc" "lab" {
  name       = "lab"
  cidr_block = "10.0.0.0/16"
}

# Guests on the office's LAN, through the bridge br0 that the host has already.
resource "weft_vpc" "office" {
  name        = "office"
  cidr_block  = "192.168.1.0/24"
  mode        = "bridge"
  bridge_name = "br0"
}

# Guests in VLAN 20 of the host's second network card, which no bridge of the host has.
resource "weft_vpc" "telephony" {
  name       = "telephony"
  cidr_block = "192.168.20.0/24"
  mode       = "bridge"
  uplink     = "eth1"
  vlan_id    = 20
}
