# A network of one's own: a VPC with a subnet, a group, and a machine in it.
#
# Needs what 01-one-instance needs. The VPC is routed: its guests go out behind the host's address,
# and nobody has a route to them, so logging in goes through the agent:
#
#   terraform init && terraform apply
#   weft ssh -i ~/.ssh/id_ed25519 "$(terraform output -raw id)"
#
# On the office's own LAN instead: mode = "bridge" and bridge_name = "br0" in the VPC, the LAN's
# range as its cidr_block, and the LAN's router as the subnet's gateway_ip.

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

variable "cidr_block" {
  description = "The VPC's range. It may overlap that of any other VPC."
  type        = string
  default     = "10.20.0.0/16"
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
    example = "02-own-network"
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
  key_name   = "own-network"
  public_key = file(pathexpand(var.public_key))
}

resource "weft_vpc" "lab" {
  name       = "lab"
  cidr_block = var.cidr_block
}

resource "weft_subnet" "web" {
  name       = "web"
  vpc_id     = weft_vpc.lab.id
  cidr_block = cidrsubnet(weft_vpc.lab.cidr_block, 8, 1)
}

resource "weft_security_group" "web" {
  name        = "web"
  description = "SSH and HTTP from inside of the VPC"
  vpc_id      = weft_vpc.lab.id
}

resource "weft_security_group_ingress_rule" "web" {
  for_each          = toset(["22", "80"])
  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv4         = weft_vpc.lab.cidr_block
}

resource "weft_instance" "web" {
  name               = "web"
  image_id           = weft_image.tiny.id
  instance_type      = var.instance_type
  subnet_id          = weft_subnet.web.id
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.web.id]
}

output "id" {
  value = weft_instance.web.id
}

output "private_ip" {
  value = weft_instance.web.private_ip
}

output "vpc_id" {
  value = weft_vpc.lab.id
}
