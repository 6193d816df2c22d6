resource "weft_volume" "data" {
  name     = "data"
  size_gib = 20
}
