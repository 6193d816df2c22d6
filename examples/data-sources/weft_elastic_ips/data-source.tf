data "weft_elastic_ips" "edge" {
  tags = { role = "edge" }
}

output "edge_addresses" {
  value = data.weft_elastic_ips.edge.elastic_ips[*].public_ip
}
