import {
  to = weft_route_table.private
  identity = {
    id = "rtb-0123456789abcdef0"
  }
}
