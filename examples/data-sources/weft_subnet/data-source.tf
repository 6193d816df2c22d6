data "weft_vpc" "app" {
  name = "app"
}

data "weft_subnet" "web" {
  vpc_id = data.weft_vpc.app.id
  name   = "web"
}

resource "weft_instance" "web" {
  image_id      = weft_image.debian.id
  instance_type = "w1.small"
  subnet_id     = data.weft_subnet.web.id
}
