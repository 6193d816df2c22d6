data "weft_usage" "november" {
  from_day = "2026-11-01"
  to_day   = "2026-11-30"
  group_by = "tag:team"
}

# What each team's instances cost; those without the tag are under "".
output "cost_by_team" {
  value = {
    for team in distinct(data.weft_usage.november.rows[*].group) : team => sum(concat([0], [
      for row in data.weft_usage.november.rows : tonumber(row.cost)
      if row.group == team && row.cost != null
    ]))
  }
}
