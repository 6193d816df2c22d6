list "weft_instance_type" "build" {
  provider = weft

  config {
    name_regex = "^build\\."
  }
}
