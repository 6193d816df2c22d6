import {
  to = weft_prefix_list.offices
  identity = {
    id = "pl-0123456789abcdef0"
  }
}
