import {
  to = weft_vpc.lab
  identity = {
    id = "vpc-0123456789abcdef0"
  }
}
