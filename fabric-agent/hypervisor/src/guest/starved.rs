//! Which disks of a guest have halted it because there was no room for what it wrote.
//!
//! Commands: `query-block` (QEMU `qapi/block-core.json`, `BlockDeviceIoStatus`): the status stays
//! until the guest goes on.

use serde_json::{Value, json};
use weft_model::InstanceId;

use super::devices::{Devices, device_of};
use super::{GuestError, Guests};

impl Guests {
    /// The devices of the disks whose files could not grow.
    ///
    /// # Errors
    /// The guest does not run, or QEMU does not answer.
    pub async fn disks_without_room(&self, id: &InstanceId) -> Result<Vec<String>, GuestError> {
        let blocks = Devices::of(self, id).await?.execute("query-block", json!({})).await?;
        Ok(without_room(&blocks))
    }
}

fn without_room(blocks: &Value) -> Vec<String> {
    let starved = |block: &&Value| block["io-status"] == "nospace";
    let blocks = blocks.as_array().into_iter().flatten();
    blocks.filter(starved).filter_map(device_of).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_lacks_room_is_told_by_its_device() {
        let block = |qdev: &str, status: &str| json!({ "qdev": qdev, "io-status": status });
        let blocks = json!([
            block("/machine/peripheral/root/virtio-backend", "ok"),
            block("/machine/peripheral/vol-1/virtio-backend", "nospace"),
            block("/machine/peripheral/vol-2/virtio-backend", "failed"),
            { "qdev": "/machine/peripheral/cd" },
        ]);
        assert_eq!(without_room(&blocks), ["vol-1"]);
    }
}
