//! What becomes larger: disks, where they are open, and guests while they run.

use weft_hypervisor::GuestError;
use weft_model::{GuestSize, InstanceId};

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
            let what = format!(
                "make the disk \"{device}\" of the guest of {id} larger, which runs on with it as it was; it \
                 is tried again, and done when it is stopped and started (weft stop {id}, weft start {id})"
            );
            HostError::new(what, true).caused_by(error)
        })
    }

    /// Lets a guest that runs take as much of the host as one of this size may.
    pub(super) async fn raise_limits(
        &self,
        id: &InstanceId,
        size: GuestSize,
        display: bool,
    ) -> Result<(), HostError> {
        let raised = self.guests.raise_limits(id, size, display).await;
        raised.map_err(not_grown(id, "let it take more of the host"))
    }

    /// Gives a guest that runs processors until it has `vcpus`.
    pub(super) async fn add_vcpus(&self, id: &InstanceId, vcpus: u32) -> Result<(), HostError> {
        let added = self.guests.add_vcpus(id, vcpus).await;
        added.map_err(not_grown(id, &format!("give it {vcpus} vCPUs")))
    }

    /// Gives a guest that runs more memory, into a slot of its machine.
    pub(super) async fn add_memory(
        &self,
        id: &InstanceId,
        slot: u8,
        mib: u32,
    ) -> Result<(), HostError> {
        let added = self.guests.add_memory(id, slot, mib).await;
        added.map_err(not_grown(id, &format!("give it {mib} MiB more memory")))
    }
}

/// It may be done later, and is when it is started again: it runs on as it is.
fn not_grown(id: &InstanceId, what: &str) -> impl FnOnce(GuestError) -> HostError {
    let what =
        format!("grow the guest of {id}, which runs on (weft reboot {id} makes it so): {what}");
    move |error| HostError::new(what, true).caused_by(error)
}
