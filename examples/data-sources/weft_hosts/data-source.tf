data "weft_hosts" "all" {}

output "free_memory_gib" {
  value = { for host in data.weft_hosts.all.hosts : host.name => floor(host.free_memory_mib / 1024) }
}
