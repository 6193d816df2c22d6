import {
  to = weft_network_interface.back
  identity = {
    id = "eni-0123456789abcdef0"
  }
}
