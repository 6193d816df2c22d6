data "weft_known_hosts" "web" {
  tags = { role = "web" }
}

resource "terraform_data" "known_hosts" {
  triggers_replace = data.weft_known_hosts.web.content

  provisioner "local-exec" {
    command     = "printf %s \"$LINES\" > known_hosts"
    environment = { LINES = data.weft_known_hosts.web.content }
  }
}
