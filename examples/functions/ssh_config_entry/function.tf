resource "weft_instance" "web" {
  name          = "web-1"
  image_id      = weft_image.debian.id
  instance_type = "w1.small"
}

resource "weft_image" "debian" {
  name         = "debian-13"
  source_path  = "images/debian-13.qcow2"
  default_user = "debian"
}

# Redirect it to a file that ~/.ssh/config includes: terraform output -raw ssh_config
output "ssh_config" {
  value = provider::weft::ssh_config_entry("web-1", {
    host_name     = weft_instance.web.private_ip
    instance_id   = weft_instance.web.id # through the agent: no route to the guest is needed
    user          = weft_image.debian.default_user
    identity_file = "~/.ssh/id_ed25519"
  })
}
