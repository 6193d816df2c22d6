# http://HOST:8080 is the guest's port 80; its security groups say for whom.
resource "weft_port_forward" "web" {
  name        = "web"
  protocol    = "tcp"
  host_port   = 8080
  target_port = 80
  instance_id = weft_instance.web.id
}
