data "weft_vpc" "app" {
  name = "app"
}

data "weft_route_tables" "app" {
  vpc_id = data.weft_vpc.app.id
}

output "routes" {
  value = { for table in data.weft_route_tables.app.route_tables : table.name => table.routes }
}
