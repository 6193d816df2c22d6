# A snapshot before each change of the instance. What runs before a change cannot refer to what changes: so
# the id is written out, or comes from a variable.
action "weft_instance_snapshot" "before_change" {
  config {
    instance_id = "i-0123456789abcdef0"
    description = "before a change"
    tags        = { made_by = "terraform" }
  }
}

resource "weft_instance" "web" {
  name          = "web-1"
  image_id      = weft_image.debian.id
  instance_type = "w1.small"

  lifecycle {
    action_trigger {
      events  = [before_update]
      actions = [action.weft_instance_snapshot.before_change]
    }
  }
}

resource "weft_image" "debian" {
  name         = "debian-13"
  source_path  = "images/debian-13.qcow2"
  default_user = "debian"
}
