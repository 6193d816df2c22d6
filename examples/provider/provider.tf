terraform {
  required_providers {
    weft = {
      source = "weft-cloud/weft"
    }
  }
}

provider "weft" {
  # Unset, the environment variable WEFT_ENDPOINT, else this:
  endpoint = "unix:///run/weft/agent.sock"

  default_tags = {
    team = "platform"
  }
}
