data "weft_key_pair" "team" {
  key_name = "team"
}

output "fingerprint" {
  value = data.weft_key_pair.team.fingerprint_sha256
}
