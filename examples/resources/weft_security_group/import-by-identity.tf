import {
  to = weft_security_group.web
  identity = {
    id = "sg-0123456789abcdef0"
  }
}
