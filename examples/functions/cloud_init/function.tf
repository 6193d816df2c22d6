resource "weft_instance" "web" {
  image_id      = weft_image.debian.id
  instance_type = "w1.small"

  user_data = provider::weft::cloud_init([
    {
      content = "#cloud-config\n${yamlencode({ packages = ["nginx"] })}"
    },
    {
      filename = "greet.sh"
      content  = <<-EOT
        #!/bin/sh
        echo "Hello from Weft" > /etc/motd
      EOT
    },
  ])
}

resource "weft_image" "debian" {
  name         = "debian-13"
  source_path  = "images/debian-13.qcow2"
  default_user = "debian"
}
