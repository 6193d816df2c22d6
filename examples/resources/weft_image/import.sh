terraform import weft_image.debian img-0123456789abcdef0
