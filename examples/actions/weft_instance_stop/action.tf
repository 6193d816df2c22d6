# terraform apply -invoke=action.weft_instance_stop.web
action "weft_instance_stop" "web" {
  config {
    instance_id              = weft_instance.web.id
    shutdown_timeout_seconds = 120
  }
}

resource "weft_instance" "web" {
  name          = "web-1"
  image_id      = weft_image.debian.id
  instance_type = "w1.small"
  power_state   = "unmanaged" # left to actions and people
}

resource "weft_image" "debian" {
  name         = "debian-13"
  source_path  = "images/debian-13.qcow2"
  default_user = "debian"
}
