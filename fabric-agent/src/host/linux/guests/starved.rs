//! Guests that a full disk has halted: they go on when there is room where they lacked it.

use weft_hypervisor::ROOT_DEVICE;
use weft_model::{InstanceId, VolumeId};

use super::LinuxGuests;
use crate::error_chain::ErrorChain;
use crate::host::Starved;
use crate::host::pools::{ROOM_BYTES, Room};

impl LinuxGuests {
    /// Of a guest that an I/O error has halted.
    pub(super) async fn starved(&self, id: &InstanceId) -> Starved {
        let lacking = match self.guests.disks_without_room(id).await {
            Ok(devices) if !devices.is_empty() => devices,
            // No disk says so: another error, and most likely of the one that every guest has.
            Ok(_) => vec![ROOT_DEVICE.to_owned()],
            Err(error) => {
                tracing::debug!(instance.id = %id, error = %ErrorChain(&error), "its disks do not tell");
                return Starved::Yes;
            }
        };
        let has_room = |device: &String| match device.parse() {
            Ok(volume_id) => self.has_room_for(&volume_id),
            Err(_) => is_roomy(&self.instances),
        };
        if lacking.iter().all(has_room) { Starved::RoomAgain } else { Starved::Yes }
    }

    /// Whether there is room where the volume is.
    fn has_room_for(&self, id: &VolumeId) -> bool {
        let mut dirs = self.pools.volumes_dirs().map(|(_, dir)| dir.join(id.as_str()));
        dirs.find(|dir| dir.exists()).is_some_and(|dir| is_roomy(&dir))
    }
}

fn is_roomy(dir: &std::path::Path) -> bool {
    Room::of(dir).is_ok_and(|room| room.free_bytes >= ROOM_BYTES)
}
