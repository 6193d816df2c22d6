data "weft_elastic_ip" "front" {
  name = "front"
}

output "address" {
  value = data.weft_elastic_ip.front.public_ip
}
