list "weft_route_table_association" "private" {
  provider = weft

  config {
    route_table_id = "rtb-0123456789abcdef0"
  }
}
