data "weft_image_alias" "debian" {
  name = "debian/13"
}

resource "weft_image" "debian" {
  name         = "debian-13"
  source_url   = data.weft_image_alias.debian.url
  mirrors      = data.weft_image_alias.debian.mirrors
  sha256       = data.weft_image_alias.debian.sha256
  sha512       = data.weft_image_alias.debian.sha512
  sha256_url   = data.weft_image_alias.debian.sha256_url
  architecture = data.weft_image_alias.debian.architecture
  boot_mode    = data.weft_image_alias.debian.boot_mode
  default_user = data.weft_image_alias.debian.default_user
  min_disk_gib = data.weft_image_alias.debian.min_disk_gib
}
