data "weft_console_output" "web" {
  instance_id = "i-0123456789abcdef0"
  max_bytes   = 4096
}

output "last_words" {
  value = data.weft_console_output.web.output
}
