resource "weft_elastic_ip" "front" {
  name = "front"
}

# An address of the office's LAN, where the agent runs with --public-pool 192.168.1.200-192.168.1.209.
resource "weft_elastic_ip" "printers" {
  name    = "printers"
  address = "192.168.1.201"
}
