# The instance is rebooted once for each new value of maintenance, to boot the kernel that updates in the
# guest have installed.
action "weft_instance_reboot" "web" {
  config {
    instance_id = weft_instance.web.id
    wait_for    = "ssh"
  }
}

resource "terraform_data" "maintenance" {
  input = "2026-11"

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
