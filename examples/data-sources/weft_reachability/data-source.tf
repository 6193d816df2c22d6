# The plan fails where the web server cannot reach its database.
data "weft_reachability" "database" {
  source_instance_id      = "i-0123456789abcdef0"
  destination_instance_id = "i-0123456789abcdef1"
  protocol                = "tcp"
  port                    = 5432

  lifecycle {
    postcondition {
      condition     = self.allowed
      error_message = self.reason
    }
  }
}
