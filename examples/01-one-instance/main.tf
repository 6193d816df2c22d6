# One instance that you can log in to by ssh.
#
#     terraform init && terraform apply
#     weft ssh -i ~/.ssh/id_ed25519 hello

terraform {
  required_providers {
    weft = {
      source = "weft-cloud/weft"
    }
  }
}

# The agent of this machine: the socket that WEFT_ENDPOINT names, else /run/weft/agent.sock.
provider "weft" {}

variable "image_dir" {
  description = "Where scripts/build-weft-tiny.sh left the guest image."
  type        = string
  default     = "../../target/images/weft-tiny"
}

variable "public_key" {
  description = "A file with the public key that may log in."
  type        = string
  default     = "~/.ssh/id_ed25519.pub"
}

locals {
  image = jsondecode(file("${var.image_dir}/manifest.json"))
}

resource "weft_image" "tiny" {
  name           = "weft-tiny"
  source_path    = "${var.image_dir}/${local.image.disk}"
  kernel         = "${var.image_dir}/${local.image.kernel}"
  initrd         = "${var.image_dir}/${local.image.initrd}"
  kernel_cmdline = local.image.cmdline
  default_user   = local.image.user
}

resource "weft_key_pair" "me" {
  key_name   = "me"
  public_key = file(var.public_key)
}

resource "weft_security_group" "ssh" {
  name        = "ssh"
  description = "Lets ssh in; everything out is allowed."
}

resource "weft_security_group_ingress_rule" "ssh" {
  security_group_id = weft_security_group.ssh.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = "0.0.0.0/0"
}

resource "weft_instance" "hello" {
  name               = "hello"
  instance_type      = "w1.nano"
  image_id           = weft_image.tiny.id
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.ssh.id]
}

output "id" {
  value = weft_instance.hello.id
}

output "private_ip" {
  value = weft_instance.hello.private_ip
}

# For a machine with a route to the instance; "weft ssh" needs none.
output "ssh_command" {
  value = weft_instance.hello.ssh_command
}

# The instance's host key, made by the agent: nothing has to be trusted on first use.
output "known_hosts_line" {
  value = weft_instance.hello.known_hosts_line
}
