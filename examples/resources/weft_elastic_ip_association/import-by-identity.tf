import {
  to = weft_elastic_ip_association.front
  identity = {
    id = "eip-0123456789abcdef0/i-0123456789abcdef0"
  }
}
