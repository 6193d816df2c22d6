list "weft_route_table" "lab" {
  provider = weft

  config {
    vpc_id = "vpc-0123456789abcdef0"
  }
}
