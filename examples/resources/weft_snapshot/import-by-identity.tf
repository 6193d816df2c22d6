import {
  to = weft_snapshot.nightly
  identity = {
    id = "snap-0123456789abcdef0"
  }
}
