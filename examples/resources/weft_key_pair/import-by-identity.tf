import {
  to = weft_key_pair.me
  identity = {
    id = "key-0123456789abcdef0"
  }
}
