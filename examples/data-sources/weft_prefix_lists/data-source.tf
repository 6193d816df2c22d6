data "weft_prefix_lists" "offices" {
  name_regex = "^office-"
}

# SSH from every office.
resource "weft_security_group_ingress_rule" "ssh" {
  for_each = toset(data.weft_prefix_lists.offices.ids)

  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  prefix_list_id    = each.value
}
