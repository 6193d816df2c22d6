# A disk that boots by itself.
resource "weft_image" "debian" {
  name         = "debian-13"
  source_path  = "images/debian-13.qcow2"
  default_user = "debian"
  min_disk_gib = 4
}

# A disk with the kernel beside it.
resource "weft_image" "tiny" {
  name           = "weft-tiny"
  source_path    = "images/weft-tiny/disk.raw"
  kernel         = "images/weft-tiny/vmlinuz"
  initrd         = "images/weft-tiny/initrd.img"
  kernel_cmdline = "console=ttyS0 root=/dev/vda rw"
  default_user   = "weft"
}
