variable "target" {
  description = "An instance or a volume."
  type        = string

  validation {
    condition     = try(contains(["weft_instance", "weft_volume"], provider::weft::parse_id(var.target).resource_type), false)
    error_message = "Give the id of an instance or of a volume."
  }
}

output "attached_instance" {
  # The ids of both ends: the instance, then the volume.
  value = provider::weft::parse_id("i-0123456789abcdef0/vol-0123456789abcdef0").ids[0]
}
