import {
  to = weft_instance.web
  identity = {
    id = "i-0123456789abcdef0"
  }
}
