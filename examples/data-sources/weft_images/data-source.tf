data "weft_images" "debian" {
  name_regex = "^debian-"
  tags       = { channel = "stable" }
}

output "debian_images" {
  value = data.weft_images.debian.ids
}
