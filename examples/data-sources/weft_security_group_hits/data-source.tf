data "weft_security_group_hits" "web" {
  security_group_id = "sg-0123456789abcdef0"
}

# Rules that nothing has used.
output "unused_rules" {
  value = [
    for rule in data.weft_security_group_hits.web.rules : rule.security_group_rule_id
    if rule.packets == 0
  ]
}
