data "weft_availability_zones" "all" {}

output "zones" {
  value = data.weft_availability_zones.all.names
}
