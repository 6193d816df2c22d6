resource "weft_key_pair" "me" {
  key_name   = "me"
  public_key = file("~/.ssh/id_ed25519.pub")
}
