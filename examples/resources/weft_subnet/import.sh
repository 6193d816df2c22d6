terraform import weft_subnet.web subnet-0123456789abcdef0
