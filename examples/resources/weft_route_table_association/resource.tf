resource "weft_route_table_association" "private" {
  route_table_id = weft_route_table.private.id
  subnet_id      = weft_subnet.private.id
}
