terraform import weft_volume.data vol-0123456789abcdef0
