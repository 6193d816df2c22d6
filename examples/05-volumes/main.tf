# A volume that outlives its machines: written on one, read on another, grown while it is in use,
# snapshotted there, and restored into a second volume.
#
# Needs what 01-one-instance needs. What is on the disk is the guest's business. A guest with udev has it at
# the output device_path, wherever it is attached: mkfs.ext4 and mount take that name, resize2fs as well.
# weft-tiny has no udev: there the disk is the one whose /sys/block/*/serial is the end of device_path. Of
# these programs it has mke2fs alone: its file systems do not grow, the disks below them do. So:
#
#   terraform apply                                # make a file system in the first machine, mount it
#   terraform apply -var attached_to=second        # unmount it there before, mount it here
#   terraform apply -var attached_to=second -var size_gib=2   # the disk is larger at once; then resize2fs
#   terraform apply ... -var root_size_gib=1   # so are the machines' own disks
#   terraform apply ... -var iops=200 -var throughput_mibps=2   # it is slower at once; without, as before
#   terraform apply -var encrypted=true        # from the start: it never changes; the agent needs --volume-key-file
#   terraform apply ... -var snapshot=true     # of all that is written there: the guest is frozen for a moment
#   terraform apply ... -var snapshot=true -var restore=true  # a second volume, in the first machine

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
  description = "How big the machines are; data.weft_instance_types lists them all."
  type        = string
  default     = "w1.micro"
}

variable "attached_to" {
  description = "Which machine has the volume: first or second."
  type        = string
  default     = "first"
}

variable "size_gib" {
  description = "How large the volume is. It grows while it is in use, and never shrinks."
  type        = number
  default     = 1
}

variable "root_size_gib" {
  description = "How large the machines' root disks are; unset, as large as the image. They grow live as well."
  type        = number
  default     = null
}

variable "iops" {
  description = "How many operations the volume may do each second; unset, there is no limit. Changes while it is in use."
  type        = number
  default     = null
}

variable "throughput_mibps" {
  description = "The same in MiB, read and written together."
  type        = number
  default     = null
}

variable "encrypted" {
  description = "Whether the volume is encrypted on the host, and so what is made of it; a change replaces it."
  type        = bool
  default     = false
}

variable "snapshot" {
  description = "Whether there is a snapshot of the volume, of the moment of the apply that makes it."
  type        = bool
  default     = false
}

variable "restore" {
  description = "Whether what the snapshot has is on a second volume, in the first machine; needs snapshot."
  type        = bool
  default     = false
}

locals {
  # What the image's builder says about it: files, command line and user.
  manifest = jsondecode(file("${var.image_dir}/manifest.json"))
}

provider "weft" {
  default_tags = {
    example = "05-volumes"
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
  key_name   = "volumes"
  public_key = file(pathexpand(var.public_key))
}

resource "weft_security_group" "ssh" {
  name        = "volumes"
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
  for_each = toset(["first", "second"])

  name               = each.key
  image_id           = weft_image.tiny.id
  instance_type      = var.instance_type
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.ssh.id]
  wait_for           = "ssh"
  root_volume        = var.root_size_gib == null ? null : { size_gib = var.root_size_gib }

  # The rule is there before anybody is told that SSH works.
  depends_on = [weft_security_group_ingress_rule.ssh]
}

resource "weft_volume" "data" {
  name      = "data"
  size_gib  = var.size_gib
  encrypted = var.encrypted

  iops             = var.iops
  throughput_mibps = var.throughput_mibps
}

resource "weft_volume_attachment" "data" {
  instance_id = weft_instance.machine[var.attached_to].id
  volume_id   = weft_volume.data.id
}

resource "weft_snapshot" "data" {
  count = var.snapshot ? 1 : 0

  volume_id   = weft_volume.data.id
  description = "of what is on ${weft_volume.data.name}"
  # What the guest has not written out yet is in it as well; it needs qemu-guest-agent for that.
  consistency = "frozen"

  # The volume is where it is to be; the guest that has it goes on.
  depends_on = [weft_volume_attachment.data]
}

resource "weft_volume" "restored" {
  count = var.restore ? 1 : 0

  name        = "restored"
  size_gib    = weft_snapshot.data[0].size_gib
  snapshot_id = weft_snapshot.data[0].id
}

resource "weft_volume_attachment" "restored" {
  count = var.restore ? 1 : 0

  instance_id = weft_instance.machine["first"].id
  volume_id   = weft_volume.restored[0].id
}

output "device_path" {
  description = "Where a guest with udev has the disk."
  value       = weft_volume_attachment.data.device_path
}

output "restored_device_path" {
  description = "The same of what was restored."
  value       = one(weft_volume_attachment.restored[*].device_path)
}

output "ssh_commands" {
  value = { for name, machine in weft_instance.machine : name => machine.ssh_command }
}
