data "weft_instance_metrics" "web" {
  instance_id = "i-0123456789abcdef0"
}

check "memory_is_left" {
  assert {
    condition     = coalesce(data.weft_instance_metrics.web.memory_available_bytes, 1e9) > 5e7
    error_message = "The web server has less than 50 MB of memory left."
  }
}
