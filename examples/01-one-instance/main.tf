# One small virtual machine, and how to log in to it.
#
# Needs a running agent (WEFT_ENDPOINT says where, if not /run/weft/agent.sock), the provider
# installed as the README says, the image (scripts/build-weft-tiny.sh) and an SSH key (ssh-keygen -t
# ed25519 makes one).
#
#   terraform init && terraform apply
#   echo "$(terraform output -raw known_hosts_line)" >> ~/.ssh/known_hosts
#   $(terraform output -raw ssh_command)

terraform {
  required_providers {
    weft = {
      source = "weft-cloud/weft"
    }
  }
}

variable "image_dir" {
  description = "Where scripts/build-weft-tiny.sh has left the image."
  type        = string
  default     = "../../target/images/weft-tiny"
}

variable "public_key" {
  description = "The file of the SSH public key that may log in."
  type        = string
  default     = "~/.ssh/id_ed25519.pub"
}

variable "instance_type" {
  description = "How big the machine is; data.weft_instance_types lists them all."
  type        = string
  default     = "w1.micro"
}

locals {
  # What the image's builder says about it: files, command line and user.
  manifest = jsondecode(file("${var.image_dir}/manifest.json"))
}

provider "weft" {
  default_tags = {
    example = "01-one-instance"
  }
}

resource "weft_image" "tiny" {
  name           = "weft-tiny"
  source_path    = "${var.image_dir}/${local.manifest.disk}"
  kernel         = "${var.image_dir}/${local.manifest.kernel}"
  initrd         = "${var.image_dir}/${local.manifest.initrd}"
  kernel_cmdline = local.manifest.cmdline
  architecture   = local.manifest.architecture
  default_user   = local.manifest.user
}

resource "weft_key_pair" "me" {
  key_name   = "one-instance"
  public_key = file(pathexpand(var.public_key))
}

resource "weft_security_group" "ssh" {
  name        = "one-instance"
  description = "SSH from anywhere that has a route"
}

resource "weft_security_group_ingress_rule" "ssh" {
  security_group_id = weft_security_group.ssh.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = "0.0.0.0/0"
}

resource "weft_instance" "one" {
  name               = "one"
  image_id           = weft_image.tiny.id
  instance_type      = var.instance_type
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.ssh.id]
  wait_for           = "ssh"

  # The rule is there before anybody is told that SSH works.
  depends_on = [weft_security_group_ingress_rule.ssh]
}

output "id" {
  value = weft_instance.one.id
}

output "private_ip" {
  value = weft_instance.one.private_ip
}

output "ssh_command" {
  value = weft_instance.one.ssh_command
}

output "known_hosts_line" {
  description = "Trust this instead of the first connection."
  value       = weft_instance.one.known_hosts_line
}
