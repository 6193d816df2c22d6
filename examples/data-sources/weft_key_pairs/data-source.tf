data "weft_key_pairs" "admins" {
  tags = { role = "admin" }
}

# All of them may log in.
resource "weft_instance" "web" {
  image_id      = weft_image.debian.id
  instance_type = "w1.small"
  key_names     = data.weft_key_pairs.admins.key_pairs[*].key_name
}
