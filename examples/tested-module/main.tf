# A module with tests of its own: servers of one kind in a subnet, reached by SSH from the office alone.
#
#   ./test.sh      terraform test against a simulated host: no root, no guests, seconds
#
# tests/servers.tftest.hcl has the tests, docs/testing-modules.md the rest.

terraform {
  required_version = ">= 1.9"

  required_providers {
    weft = {
      source = "weft-cloud/weft"
    }
  }
}

variable "name" {
  description = "What the network and the group are called, and what servers' names begin with."
  type        = string
}

variable "image_id" {
  description = "What they boot."
  type        = string
}

variable "servers" {
  description = "How many."
  type        = number
  default     = 2

  validation {
    condition     = var.servers >= 1 && var.servers <= 20
    error_message = "From 1 to 20 servers."
  }
}

variable "cidr_block" {
  description = "The range of their network."
  type        = string
  default     = "10.60.0.0/16"
}

variable "subnet_bits" {
  description = "How much longer the subnet's prefix is than the network's."
  type        = number
  default     = 8
}

variable "office" {
  description = "Where administrators come from."
  type        = string

  validation {
    condition     = !endswith(var.office, "/0")
    error_message = "Administrators do not come from everywhere: name the office's range."
  }
}

resource "weft_vpc" "this" {
  name       = var.name
  cidr_block = var.cidr_block
}

resource "weft_subnet" "this" {
  name       = var.name
  vpc_id     = weft_vpc.this.id
  cidr_block = cidrsubnet(var.cidr_block, var.subnet_bits, 1)
}

resource "weft_security_group" "this" {
  name        = var.name
  description = "SSH from the office"
  vpc_id      = weft_vpc.this.id
}

resource "weft_security_group_ingress_rule" "ssh" {
  security_group_id = weft_security_group.this.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = var.office
}

resource "weft_instance" "server" {
  count = var.servers

  name               = "${var.name}-${count.index + 1}"
  image_id           = var.image_id
  instance_type      = "w1.micro"
  subnet_id          = weft_subnet.this.id
  security_group_ids = [weft_security_group.this.id]

  lifecycle {
    precondition {
      # The first four addresses and the last one are not given out.
      condition     = pow(2, 32 - tonumber(split("/", weft_subnet.this.cidr_block)[1])) >= var.servers + 5
      error_message = "The subnet ${weft_subnet.this.cidr_block} has no room for ${var.servers} servers."
    }
  }
}

output "ids" {
  description = "The servers."
  value       = weft_instance.server[*].id
}

output "addresses" {
  description = "Where each is, by name."
  value       = { for server in weft_instance.server : server.name => server.private_ip }
}

# Looked at after each plan and apply; says so and stops nothing.
check "they_run" {
  assert {
    condition     = alltrue([for server in weft_instance.server : server.power_state == "running"])
    error_message = "Some servers do not run."
  }
}
