ephemeral "weft_console_token" "web" {
  instance_id = weft_instance.web.id
  lifetime    = "5m"
}

# A program that watches the console while Terraform runs.
resource "terraform_data" "watch" {
  provisioner "local-exec" {
    command = "timeout 60 weft console ${weft_instance.web.id} > console.txt || true"
    environment = {
      WEFT_ENDPOINT      = "https://fabric.example.com:${ephemeral.weft_console_token.web.port}"
      WEFT_CA_CERT       = "ca.crt"
      WEFT_CONSOLE_TOKEN = ephemeral.weft_console_token.web.token
    }
  }
}

resource "weft_instance" "web" {
  name          = "web-1"
  image_id      = weft_image.debian.id
  instance_type = "w1.small"
}

resource "weft_image" "debian" {
  name         = "debian-13"
  source_path  = "images/debian-13.qcow2"
  default_user = "debian"
}
