terraform import weft_vpc.lab vpc-0123456789abcdef0
