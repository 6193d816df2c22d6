import {
  to = weft_network_interface_attachment.back
  identity = {
    id = "i-0123456789abcdef0/eni-0123456789abcdef0"
  }
}
