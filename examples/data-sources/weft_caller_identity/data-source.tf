data "weft_caller_identity" "me" {}

# Whoever applies this is named on what is made.
resource "weft_security_group" "web" {
  name = "web"
  tags = { applied_by = data.weft_caller_identity.me.name }
}
