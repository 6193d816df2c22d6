# Two tiers: a web server that the world reaches, and a database that it does not.
#
#                      the world
#                          |
#      elastic IP, HOST:8080 -> web:80      out, as the VPC's own way out
#                          |                          ^
#   +-- VPC two-tier ------|--------------------------|-----------+
#   |  +-- subnet public --|--------------------------|--------+  |
#   |  |                [ web ]                    [ nat ]      |  |
#   |  +-------------------|--------------------------^--------+  |
#   |                      | 5432                     | 0.0.0.0/0 |
#   |  +-- subnet private -|--------------------------|--------+  |
#   |  |                   +------> [ db ] -----------+         |  |
#   |  +-------------------------------------------------------+  |
#   +-------------------------------------------------------------+
#
# Needs what 01-one-instance needs. Then, on the host:
#
#   terraform init && terraform apply
#   curl "http://$(terraform output -raw public_ip)/"
#   terraform output -raw known_hosts_lines >> ~/.ssh/known_hosts
#   $(terraform output -raw ssh_command_db)
#
# The elastic IP is of the agent's --public-pool: unless that is a part of the LAN's range, only the
# host reaches it. Other machines use port 8080 of the host's own address. The NAT instance, which
# nobody logs in to by the network, is reached by the agent: weft ssh -i ~/.ssh/id_ed25519 nat

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

variable "host_port" {
  description = "The port of the host that leads to the web server."
  type        = number
  default     = 8080
}

variable "admin_cidr" {
  description = "Who may log in to the web server by SSH."
  type        = string
  default     = "0.0.0.0/0"
}

variable "instance_type" {
  description = "How big the machines are; data.weft_instance_types lists them all."
  type        = string
  default     = "w1.nano"
}

locals {
  # What the image's builder says about it: files, command line and user.
  manifest = jsondecode(file("${var.image_dir}/manifest.json"))

  # User data run once in an instance's life, so they leave a script that runs at every boot.
  at_every_boot = <<-EOT
    #!/bin/sh
    cat >/etc/rc.local <<'END'
    #!/bin/sh
    %s
    END
    chmod 755 /etc/rc.local
    exec /etc/rc.local
  EOT
}

provider "weft" {
  default_tags = {
    example = "04-two-tier"
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
  key_name   = "two-tier"
  public_key = file(pathexpand(var.public_key))
}

# The network: one VPC, a subnet for each tier.

resource "weft_vpc" "main" {
  name       = "two-tier"
  cidr_block = "10.30.0.0/16"
}

resource "weft_subnet" "public" {
  name       = "public"
  vpc_id     = weft_vpc.main.id
  cidr_block = cidrsubnet(weft_vpc.main.cidr_block, 8, 1)
}

resource "weft_subnet" "private" {
  name       = "private"
  vpc_id     = weft_vpc.main.id
  cidr_block = cidrsubnet(weft_vpc.main.cidr_block, 8, 2)
}

# What the private subnet sends out of the VPC goes through the NAT instance, and nowhere while
# that is off.
resource "weft_route_table" "private" {
  name   = "private"
  vpc_id = weft_vpc.main.id
  routes = [{ cidr_block = "0.0.0.0/0", instance_id = weft_instance.nat.id }]
}

resource "weft_route_table_association" "private" {
  route_table_id = weft_route_table.private.id
  subnet_id      = weft_subnet.private.id
}

# Who may talk to whom. Rules name groups, not addresses: they hold for whoever joins.

resource "weft_security_group" "web" {
  name        = "web"
  description = "Web servers: HTTP for everybody"
  vpc_id      = weft_vpc.main.id
}

resource "weft_security_group" "db" {
  name        = "db"
  description = "Databases: for web servers only"
  vpc_id      = weft_vpc.main.id
}

resource "weft_security_group" "nat" {
  name        = "nat"
  description = "The private tier's way out"
  vpc_id      = weft_vpc.main.id
}

resource "weft_security_group_ingress_rule" "web_http" {
  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = "0.0.0.0/0"
}

resource "weft_security_group_ingress_rule" "web_ssh" {
  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = var.admin_cidr
}

# The tiers ping each other.
resource "weft_security_group_ingress_rule" "web_ping" {
  security_group_id            = weft_security_group.web.id
  ip_protocol                  = "icmp"
  from_port                    = 8
  to_port                      = -1
  referenced_security_group_id = weft_security_group.db.id
}

resource "weft_security_group_ingress_rule" "db_ping" {
  security_group_id            = weft_security_group.db.id
  ip_protocol                  = "icmp"
  from_port                    = 8
  to_port                      = -1
  referenced_security_group_id = weft_security_group.web.id
}

# The database's own port, and logins by way of a web server.
resource "weft_security_group_ingress_rule" "db" {
  for_each                     = toset(["22", "5432"])
  security_group_id            = weft_security_group.db.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  referenced_security_group_id = weft_security_group.web.id
}

resource "weft_security_group_ingress_rule" "nat" {
  security_group_id            = weft_security_group.nat.id
  ip_protocol                  = "-1"
  referenced_security_group_id = weft_security_group.db.id
}

# The machines.

resource "weft_instance" "web" {
  name               = "web"
  image_id           = weft_image.tiny.id
  instance_type      = var.instance_type
  subnet_id          = weft_subnet.public.id
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.web.id]
  user_data = format(local.at_every_boot, <<-EOT
    mkdir -p /srv/www
    echo "hello from web" >/srv/www/index.html
    httpd -p 80 -h /srv/www
  EOT
  )
}

resource "weft_instance" "nat" {
  name               = "nat"
  image_id           = weft_image.tiny.id
  instance_type      = var.instance_type
  subnet_id          = weft_subnet.public.id
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.nat.id]
  # It sends for others, and receives what is for others.
  source_dest_check = false
  user_data = format(local.at_every_boot, <<-EOT
    nft -f - <<'RULES'
    table ip nat {
      chain postrouting {
        type nat hook postrouting priority srcnat
        ip saddr ${weft_subnet.private.cidr_block} counter masquerade
      }
    }
    RULES
    sysctl -w net.ipv4.ip_forward=1
  EOT
  )
}

resource "weft_instance" "db" {
  name               = "db"
  image_id           = weft_image.tiny.id
  instance_type      = var.instance_type
  subnet_id          = weft_subnet.private.id
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.db.id]
  # A web server stands in for the database, which weft-tiny has none of.
  user_data = format(local.at_every_boot, <<-EOT
    mkdir -p /srv/db
    echo "hello from db" >/srv/db/index.html
    httpd -p 5432 -h /srv/db
  EOT
  )
  # So that it has its way out from the beginning.
  depends_on = [weft_route_table_association.private]
}

# The way in.

resource "weft_elastic_ip" "web" {
  name = "web"
}

resource "weft_elastic_ip_association" "web" {
  elastic_ip_id = weft_elastic_ip.web.id
  instance_id   = weft_instance.web.id
}

resource "weft_port_forward" "web" {
  name        = "web"
  protocol    = "tcp"
  host_port   = var.host_port
  target_port = 80
  instance_id = weft_instance.web.id
}

output "public_ip" {
  value = weft_elastic_ip.web.public_ip
}

output "ids" {
  value = {
    web = weft_instance.web.id
    nat = weft_instance.nat.id
    db  = weft_instance.db.id
  }
}

# The web server's with its elastic IP.
output "known_hosts_lines" {
  value = <<-EOT
    ${replace(weft_instance.web.known_hosts_line, weft_instance.web.private_ip, weft_elastic_ip.web.public_ip)}
    ${weft_instance.db.known_hosts_line}
  EOT
}

output "ssh_command" {
  value = "ssh ${local.manifest.user}@${weft_elastic_ip.web.public_ip}"
}

# By way of the web server.
output "ssh_command_db" {
  value = "ssh -J ${local.manifest.user}@${weft_elastic_ip.web.public_ip} ${local.manifest.user}@${weft_instance.db.private_ip}"
}
