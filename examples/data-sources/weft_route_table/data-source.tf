data "weft_vpc" "app" {
  name = "app"
}

data "weft_route_table" "private" {
  vpc_id = data.weft_vpc.app.id
  name   = "private"
}

resource "weft_route_table_association" "database" {
  route_table_id = data.weft_route_table.private.id
  subnet_id      = weft_subnet.database.id
}
