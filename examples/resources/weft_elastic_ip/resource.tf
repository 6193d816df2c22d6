resource "weft_elastic_ip" "front" {
  name = "front"
}

# An address of the office's LAN, which is in the agent's --public-pool.
resource "weft_elastic_ip" "printers" {
  name    = "printers"
  address = "192.168.1.201"
}
