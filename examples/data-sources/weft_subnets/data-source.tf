data "weft_vpc" "app" {
  name = "app"
}

data "weft_subnets" "app" {
  vpc_id = data.weft_vpc.app.id
}

# One instance in each.
resource "weft_instance" "probe" {
  for_each = toset(data.weft_subnets.app.ids)

  image_id      = weft_image.debian.id
  instance_type = "w1.nano"
  subnet_id     = each.value
}
