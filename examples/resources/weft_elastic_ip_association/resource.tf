# Another instance_id moves the address: the association is replaced, nothing else.
resource "weft_elastic_ip_association" "front" {
  elastic_ip_id = weft_elastic_ip.front.id
  instance_id   = weft_instance.web.id
}
