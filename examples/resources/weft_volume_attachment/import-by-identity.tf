import {
  to = weft_volume_attachment.data
  identity = {
    id = "i-0123456789abcdef0/vol-0123456789abcdef0"
  }
}
