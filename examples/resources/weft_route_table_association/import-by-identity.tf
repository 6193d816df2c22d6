import {
  to = weft_route_table_association.private
  identity = {
    id = "rtb-0123456789abcdef0/subnet-0123456789abcdef0"
  }
}
