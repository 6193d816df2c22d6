data "weft_image" "debian" {
  name_regex  = "^debian-13"
  most_recent = true
}
