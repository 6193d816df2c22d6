import {
  to = weft_port_forward.web
  identity = {
    id = "pf-0123456789abcdef0"
  }
}
