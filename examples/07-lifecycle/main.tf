# The life of a machine: stopped and paid no more, resized, brought back when its guest dies, and
# protected from being removed by mistake.
#
# Needs what 01-one-instance needs. What its root disk has stays through all of this:
#
#   terraform apply
#   terraform apply -var power_state=stopped        # shuts down; disk and address stay, computing ends
#   terraform apply                                 # starts again
#   terraform apply -var instance_type=w1.small     # restarts with more memory; the plan says so
#   terraform apply -var instance_type=w1.small -var max_memory_mib=2048     # restarts once more, with room to grow ...
#   terraform apply -var instance_type=w1.medium -var max_memory_mib=2048    # ... and grows while it runs
#   terraform apply                                 # back to its first size, with a restart
#   weft hibernate machine && terraform apply       # memory and all: it goes on where it was
#   weft exec machine -- sudo poweroff              # auto_restart: it comes back by itself
#   terraform destroy                               # refused: protected
#   terraform apply -var protected=false && terraform destroy

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

variable "max_memory_mib" {
  description = "How much memory it may grow to while it runs; null leaves growth to a restart."
  type        = number
  default     = null
}

variable "power_state" {
  description = "running or stopped."
  type        = string
  default     = "running"
}

variable "protected" {
  description = "Whether the machine is protected from being removed."
  type        = bool
  default     = true
}

locals {
  # What the image's builder says about it: files, command line and user.
  manifest = jsondecode(file("${var.image_dir}/manifest.json"))
}

provider "weft" {
  default_tags = {
    example = "07-lifecycle"
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
  key_name   = "lifecycle"
  public_key = file(pathexpand(var.public_key))
}

resource "weft_security_group" "ssh" {
  name        = "lifecycle"
  description = "SSH from anywhere that has a route"
}

resource "weft_security_group_ingress_rule" "ssh" {
  security_group_id = weft_security_group.ssh.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = "0.0.0.0/0"
}

resource "weft_instance" "machine" {
  name               = "machine"
  image_id           = weft_image.tiny.id
  instance_type      = var.instance_type
  max_memory_mib     = var.max_memory_mib
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.ssh.id]
  wait_for           = "ssh"

  power_state              = var.power_state
  auto_restart             = "always"
  shutdown_timeout_seconds = 30

  # A change that would make another machine is refused while planning.
  apply_policy           = "allow_restart"
  termination_protection = var.protected

  # The rule is there before anybody is told that SSH works.
  depends_on = [weft_security_group_ingress_rule.ssh]
}

output "id" {
  value = weft_instance.machine.id
}

output "private_ip" {
  value = weft_instance.machine.private_ip
}

output "ssh_command" {
  value = weft_instance.machine.ssh_command
}

output "known_hosts_line" {
  description = "Trust this instead of the first connection."
  value       = weft_instance.machine.known_hosts_line
}
