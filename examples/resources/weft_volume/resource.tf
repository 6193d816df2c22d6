resource "weft_volume" "data" {
  name     = "data"
  size_gib = 20

  # What a gp3 volume of EC2 has unless told otherwise.
  iops             = 3000
  throughput_mibps = 125
}

# What the first one had on it when the snapshot was taken.
resource "weft_volume" "restored" {
  name        = "restored"
  size_gib    = weft_snapshot.data.size_gib
  snapshot_id = weft_snapshot.data.id
}
