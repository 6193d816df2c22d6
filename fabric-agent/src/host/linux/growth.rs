//! Disks that become larger: where they are open.

use weft_model::InstanceId;

use super::guests::LinuxGuests;
use crate::host::HostError;

impl LinuxGuests {
    /// Makes the root disk of an instance that has no guest larger.
    pub(super) async fn grow_root(
        &self,
        id: &InstanceId,
        size_bytes: u64,
    ) -> Result<(), HostError> {
        self.disks.grow_disk(&self.root(id), size_bytes, None).await.map_err(|error| {
            HostError::new(format!("grow the root disk of {id}"), error.is_retryable())
                .caused_by(error)
        })
    }

    /// Makes a disk larger that a guest has; `device` is what its hypervisor calls it.
    pub(super) async fn grow_disk(
        &self,
        id: &InstanceId,
        device: &str,
        size_bytes: u64,
    ) -> Result<(), HostError> {
        // A guest that has just ended, or does not have it yet: another look tells.
        self.guests.grow_disk(id, device, size_bytes).await.map_err(|error| {
            HostError::new(format!("grow {device} of the guest of {id}"), true).caused_by(error)
        })
    }
}
