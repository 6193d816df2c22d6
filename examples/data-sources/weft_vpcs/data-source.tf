data "weft_vpcs" "shop" {
  tags = { project = "shop" }
}

# The subnets of each.
data "weft_subnets" "shop" {
  for_each = toset(data.weft_vpcs.shop.ids)

  vpc_id = each.value
}
