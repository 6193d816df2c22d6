terraform {
  required_providers {
    weft = {
      source = "weft-cloud/weft"
    }
  }
}

provider "weft" {
  # Default: the environment variable WEFT_ENDPOINT, else this:
  endpoint = "unix:///run/weft/agent.sock"

  default_tags = {
    team = "platform"
  }
}
