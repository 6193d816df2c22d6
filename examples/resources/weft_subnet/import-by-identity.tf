import {
  to = weft_subnet.web
  identity = {
    id = "subnet-0123456789abcdef0"
  }
}
