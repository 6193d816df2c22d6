import {
  to = weft_image.debian
  identity = {
    id = "img-0123456789abcdef0"
  }
}
