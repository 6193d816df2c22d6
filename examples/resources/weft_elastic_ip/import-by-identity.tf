import {
  to = weft_elastic_ip.front
  identity = {
    id = "eip-0123456789abcdef0"
  }
}
