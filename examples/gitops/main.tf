# A configuration that a pipeline applies: planned for each pull request, applied when it is merged,
# and compared with what there is every night. The state is the agent's; see docs/guides/gitops.md.
#
#   pipeline.sh plan      what a merge would do, kept as exactly this plan
#   pipeline.sh apply     that plan, and no other
#   pipeline.sh drift     exit status 2 where somebody changed things by hand

terraform {
  required_version = ">= 1.9"

  required_providers {
    weft = {
      source = "weft-cloud/weft"
    }
  }

  # Address and certificate come from the environment: pipeline.sh sets them.
  backend "http" {}
}

variable "image" {
  description = "The disk image that machines boot, a file beside this one or elsewhere."
  type        = string
}

variable "machines" {
  description = "The machines, by name, with how big each is."
  type        = map(string)
  default = {
    web = "w1.micro"
  }
}

provider "weft" {
  default_tags = {
    managed_by = "pipeline"
  }
}

resource "weft_image" "base" {
  name         = "gitops-base"
  source_path  = var.image
  default_user = "weft"
}

resource "weft_security_group" "web" {
  name        = "gitops-web"
  description = "HTTP from anywhere"
}

resource "weft_security_group_ingress_rule" "http" {
  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = "0.0.0.0/0"
}

resource "weft_instance" "machine" {
  for_each = var.machines

  name               = each.key
  image_id           = weft_image.base.id
  instance_type      = each.value
  security_group_ids = [weft_security_group.web.id]
  power_state        = "running"

  # A pull request that would make a machine anew fails with its plan.
  apply_policy = "allow_restart"
}

output "addresses" {
  description = "Where each machine is."
  value       = { for name, machine in weft_instance.machine : name => machine.private_ip }
}
