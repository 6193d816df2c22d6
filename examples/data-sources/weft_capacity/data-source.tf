data "weft_capacity" "now" {}

locals {
  room = { for type in data.weft_capacity.now.types : type.instance_type => type.available_instance_count }
}

# A warning while planning, where fewer than three more would fit.
check "room_for_three_more" {
  assert {
    condition     = local.room["w1.small"] >= 3
    error_message = "There is room for ${local.room["w1.small"]} more w1.small only."
  }
}
