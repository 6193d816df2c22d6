# The instance is rebooted whenever the keys that it is to see have changed.
action "weft_instance_reboot" "web" {
  config {
    instance_id = weft_instance.web.id
    wait_for    = "ssh"
  }
}

resource "terraform_data" "keys" {
  input = weft_instance.web.key_names

  lifecycle {
    action_trigger {
      events  = [after_update]
      actions = [action.weft_instance_reboot.web]
    }
  }
}

resource "weft_instance" "web" {
  name          = "web-1"
  image_id      = weft_image.debian.id
  instance_type = "w1.small"
  key_names     = [weft_key_pair.me.key_name]
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
