import {
  to = weft_instance_type.build
  identity = {
    id = "type-0123456789abcdef0"
  }
}
