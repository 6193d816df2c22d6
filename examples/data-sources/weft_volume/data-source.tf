data "weft_volume" "data" {
  name = "data"
}

output "size" {
  value = data.weft_volume.data.size_gib
}
