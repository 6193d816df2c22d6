data "weft_instance_types" "all" {}

output "types" {
  value = { for type in data.weft_instance_types.all.types : type.name => "${type.vcpus} vCPU, ${type.memory_mib} MiB" }
}

data "weft_instance_types" "build" {
  name_regex = "^build\\."
}
