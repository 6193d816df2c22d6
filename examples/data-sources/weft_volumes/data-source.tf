data "weft_volumes" "all" {}

output "volume_gib" {
  value = sum(concat([0], data.weft_volumes.all.volumes[*].size_gib))
}
