data "weft_vpc" "default" {
  default = true
}

data "weft_security_groups" "shared" {
  vpc_id = data.weft_vpc.default.id
  tags   = { shared = "yes" }
}

resource "weft_instance" "web" {
  image_id           = weft_image.debian.id
  instance_type      = "w1.small"
  security_group_ids = data.weft_security_groups.shared.ids
}
