resource "weft_instance" "web" {
  name               = "web-1"
  image_id           = weft_image.debian.id
  instance_type      = "w1.small"
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.web.id]

  root_volume = {
    size_gib = 8
  }

  user_data = <<-EOT
    #!/bin/sh
    echo "Hello from Weft" > /etc/motd
  EOT

  timeouts = {
    create = "5m"
  }
}

resource "weft_image" "debian" {
  name         = "debian-13"
  source_path  = "images/debian-13.qcow2"
  default_user = "debian"
}

resource "weft_key_pair" "me" {
  key_name   = "me"
  public_key = file("~/.ssh/id_ed25519.pub")
}

resource "weft_security_group" "web" {
  name = "web"
}

output "ssh" {
  value = weft_instance.web.ssh_command
}
