resource "weft_instance_type" "build" {
  name         = "build.large"
  vcpus        = 6
  memory_mib   = 12288
  network_mbps = 1000
}

resource "weft_instance" "runner" {
  image_id      = weft_image.debian.id
  instance_type = weft_instance_type.build.name
}
