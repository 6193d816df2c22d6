terraform import weft_key_pair.me key-0123456789abcdef0
