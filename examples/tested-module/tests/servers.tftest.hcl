# Each run goes on with what the one before it left; at the end all is destroyed.

variables {
  name   = "servers"
  office = "198.51.100.0/24"
}

run "setup" {
  module {
    source = "./tests/setup"
  }
}

run "a_plan_has_what_was_asked_for" {
  command = plan

  variables {
    image_id = run.setup.image_id
  }

  assert {
    condition     = length(weft_instance.server) == 2
    error_message = "Unless told otherwise there are two."
  }

  assert {
    condition     = weft_subnet.this.cidr_block == "10.60.1.0/24"
    error_message = "The subnet is ${weft_subnet.this.cidr_block}."
  }
}

run "they_are_made" {
  variables {
    image_id = run.setup.image_id
  }

  assert {
    condition     = alltrue([for ip in values(output.addresses) : cidrhost("${ip}/24", 0) == "10.60.1.0"])
    error_message = "Some are not in their subnet: ${jsonencode(output.addresses)}"
  }

  assert {
    condition     = alltrue([for server in weft_instance.server : length(server.security_group_ids) == 1])
    error_message = "They are in other groups, too."
  }

  assert {
    condition     = weft_security_group_ingress_rule.ssh.cidr_ipv4 == "198.51.100.0/24"
    error_message = "SSH is open to others than the office."
  }
}

run "one_more_leaves_the_others_alone" {
  variables {
    image_id = run.setup.image_id
    servers  = 3
  }

  assert {
    condition     = slice(output.ids, 0, 2) == run.they_are_made.ids
    error_message = "Servers were made anew."
  }

  assert {
    condition     = keys(output.addresses) == ["servers-1", "servers-2", "servers-3"]
    error_message = "They are called ${join(", ", keys(output.addresses))}."
  }
}

run "none_is_too_few" {
  command = plan

  variables {
    image_id = run.setup.image_id
    servers  = 0
  }

  expect_failures = [var.servers]
}

run "administrators_do_not_come_from_everywhere" {
  command = plan

  variables {
    image_id = run.setup.image_id
    office   = "0.0.0.0/0"
  }

  expect_failures = [var.office]
}

run "more_than_the_subnet_holds_are_refused" {
  command = plan

  variables {
    image_id    = run.setup.image_id
    servers     = 12
    subnet_bits = 12
    cidr_block  = "10.60.0.0/16"
  }

  expect_failures = [weft_instance.server]
}
