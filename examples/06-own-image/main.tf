# An image of your own: one machine is set up by its user data, captured, and three are launched from
# what it has become.
#
#   [ origin ] --user data--> set up --captured--> [ image "own" ] --> [ web-0 ] [ web-1 ] [ web-2 ]
#
# The three have an identity of their own (host key, name, address); what was installed is there from
# their first second. The machine that was captured goes on running, and may go once it is captured.
#
# Needs what 01-one-instance needs. Then, on the host:
#
#   terraform init && terraform apply
#   for address in $(terraform output -json addresses | tr -d '[]"' | tr , ' '); do
#     bash -c "cat </dev/tcp/$address/80"
#   done

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
  default     = "w1.nano"
}

locals {
  # What the image's builder says about it: files, command line and user.
  manifest = jsondecode(file("${var.image_dir}/manifest.json"))

  # On Debian this would be "apt-get install -y nginx"; the image of the example has neither, so a
  # service of its own is installed. The last lines tell the agent that it is done: with curl,
  # curl -X PUT -d '{"status":"success"}' http://169.254.169.254/weft/v1/signal and a token.
  set_up = <<-EOT
    #!/bin/sh
    set -e
    mkdir -p /srv/www
    echo 'installed once, on the machine that was captured' >/srv/www/index.txt
    cat >/etc/rc.local <<'END'
    #!/bin/sh
    while true; do
      cat /srv/www/index.txt | nc -l -p 80
    done >/dev/null 2>&1 &
    END
    chmod 755 /etc/rc.local
    imds() {
      printf '%s %s HTTP/1.0\r\n%s\r\nContent-Length: %d\r\n\r\n%s' "$1" "$2" "$3" "$${#4}" "$4" |
        nc 169.254.169.254 80
    }
    token=$(imds PUT /latest/api/token 'X-aws-ec2-metadata-token-ttl-seconds: 60' '' | tail -n 1)
    imds PUT /weft/v1/signal "X-aws-ec2-metadata-token: $token" '{"status":"success"}'
  EOT
}

provider "weft" {
  default_tags = {
    example = "06-own-image"
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
  key_name   = "own-image"
  public_key = file(pathexpand(var.public_key))
}

resource "weft_security_group" "web" {
  name        = "own-image"
  description = "SSH and a web server"
}

resource "weft_security_group_ingress_rule" "web" {
  for_each          = { ssh = 22, http = 80 }
  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv4         = "0.0.0.0/0"
}

# Set up when its user data have said so.
resource "weft_instance" "origin" {
  name               = "origin"
  image_id           = weft_image.tiny.id
  instance_type      = var.instance_type
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.web.id]
  user_data          = local.set_up
  wait_for           = "signal"

  depends_on = [weft_security_group_ingress_rule.web]
}

# Shut down for a moment, so that its file systems are clean in the image.
resource "weft_image" "own" {
  name                    = "own"
  source_instance_id      = weft_instance.origin.id
  snapshot_without_reboot = false
}

resource "weft_instance" "web" {
  count              = 3
  name               = "web-${count.index}"
  image_id           = weft_image.own.id
  instance_type      = var.instance_type
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.web.id]
  wait_for           = "ssh"
}

output "image_id" {
  value = weft_image.own.id
}

output "addresses" {
  value = weft_instance.web[*].private_ip
}

output "known_hosts_lines" {
  description = "Trust these instead of the first connections."
  value       = join("\n", weft_instance.web[*].known_hosts_line)
}
