import {
  to = weft_volume.data
  identity = {
    id = "vol-0123456789abcdef0"
  }
}
