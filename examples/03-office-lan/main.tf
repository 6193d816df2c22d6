# A machine on the office's own LAN: with an address of it, seen by everybody there as any other
# machine, and behind its security groups all the same.
#
# Needs what 01-one-instance needs, and on the host a bridge that the LAN's cable is a port of (br0).
# From any machine of the LAN:
#
#   terraform init && terraform apply
#   echo "$(terraform output -raw known_hosts_line)" >> ~/.ssh/known_hosts
#   $(terraform output -raw ssh_command)
#
# The LAN keeps its own router and its own DHCP server. Weft gives out the addresses of the subnet
# below and answers its own guests only; keep that range out of the LAN's DHCP server's.

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

variable "bridge_name" {
  description = "The host's bridge to the LAN."
  type        = string
  default     = "br0"
}

variable "lan" {
  description = "The LAN's range."
  type        = string
  default     = "192.168.1.0/24"
}

variable "router" {
  description = "The LAN's router, and whom its machines ask for names."
  type        = string
  default     = "192.168.1.1"
}

variable "given_out" {
  description = "The part of the LAN that Weft may give out."
  type        = string
  default     = "192.168.1.128/26"
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
    example = "03-office-lan"
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
  key_name   = "office-lan"
  public_key = file(pathexpand(var.public_key))
}

resource "weft_vpc" "office" {
  name        = "office"
  cidr_block  = var.lan
  mode        = "bridge"
  bridge_name = var.bridge_name
}

resource "weft_subnet" "office" {
  name        = "office"
  vpc_id      = weft_vpc.office.id
  cidr_block  = var.given_out
  gateway_ip  = var.router
  dns_servers = [var.router]
}

resource "weft_security_group" "desk" {
  name        = "desk"
  description = "SSH from the LAN"
  vpc_id      = weft_vpc.office.id
}

resource "weft_security_group_ingress_rule" "ssh" {
  security_group_id = weft_security_group.desk.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = weft_vpc.office.cidr_block
}

resource "weft_instance" "desk" {
  name               = "desk"
  image_id           = weft_image.tiny.id
  instance_type      = var.instance_type
  subnet_id          = weft_subnet.office.id
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.desk.id]
}

output "id" {
  value = weft_instance.desk.id
}

output "known_hosts_line" {
  value = weft_instance.desk.known_hosts_line
}

output "ssh_command" {
  value = weft_instance.desk.ssh_command
}
