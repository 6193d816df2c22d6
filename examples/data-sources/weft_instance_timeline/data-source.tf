data "weft_instance_timeline" "web" {
  instance_id = "i-0123456789abcdef0"
}

# How long each phase of the boot took to be reached, in milliseconds.
output "boot" {
  value = { for phase in data.weft_instance_timeline.web.phases : phase.name => phase.offset_ms }
}
