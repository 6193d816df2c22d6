data "weft_host" "here" {}

output "room" {
  value = "${data.weft_host.here.free_memory_mib} MiB free on ${data.weft_host.here.name}"
}
