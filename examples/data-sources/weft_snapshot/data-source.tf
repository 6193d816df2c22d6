data "weft_snapshot" "newest" {
  tags        = { Purpose = "backup" }
  most_recent = true
}

output "size" {
  value = data.weft_snapshot.newest.size_gib
}
