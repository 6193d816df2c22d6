# What the module is given from outside: an image. To a simulated host any bytes are a disk.

terraform {
  required_providers {
    weft = {
      source = "weft-cloud/weft"
    }
  }
}

resource "weft_image" "any" {
  name         = "of-the-tests"
  source_path  = "${path.module}/disk.raw"
  default_user = "weft"
}

output "image_id" {
  value = weft_image.any.id
}
