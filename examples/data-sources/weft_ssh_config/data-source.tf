# terraform output -raw ssh_config > ssh_config; ssh -F ssh_config web-1
data "weft_ssh_config" "all" {
  identity_file = "~/.ssh/id_ed25519"
}

output "ssh_config" {
  value = data.weft_ssh_config.all.content
}
