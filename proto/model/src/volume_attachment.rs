//! What attaches volumes to instances.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{InstanceId, Problem, Reason, VolumeAttachmentId, VolumeId};

/// Volumes that an instance has at most: as many as QEMU's command line has places for.
pub const MAX_VOLUMES_PER_INSTANCE: u8 = 8;

impl VolumeId {
    /// What a guest sees as the disk's serial number: as EC2's, without the dash, since virtio has
    /// room for 20 bytes (`VIRTIO_BLK_ID_BYTES` in Linux `include/uapi/linux/virtio_blk.h`).
    pub fn serial(&self) -> String {
        format!("vol{}", self.digits())
    }

    /// Where a guest's udev puts it.
    pub fn device_path(&self) -> String {
        format!("/dev/disk/by-id/virtio-{}", self.serial())
    }
}

/// A volume's attachment to an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeAttachmentSpec {
    /// The instance.
    pub instance_id: InstanceId,
    /// The volume.
    pub volume_id: VolumeId,
    /// Its place among the instance's volumes, from 1: which root port it is plugged into.
    pub place: u8,
    /// Whether the volume goes with the instance.
    pub delete_on_termination: bool,
}

impl VolumeAttachmentSpec {
    /// The attachment's id.
    pub fn id(&self) -> VolumeAttachmentId {
        VolumeAttachmentId::new(self.instance_id.clone(), self.volume_id.clone())
    }
}

/// An attachment as clients ask for it and see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeAttachmentOrder {
    /// The instance.
    pub instance_id: InstanceId,
    /// The volume.
    pub volume_id: VolumeId,
    /// Whether the volume goes with the instance.
    pub delete_on_termination: bool,
}

impl From<VolumeAttachmentSpec> for VolumeAttachmentOrder {
    fn from(spec: VolumeAttachmentSpec) -> Self {
        let VolumeAttachmentSpec { instance_id, volume_id, place: _, delete_on_termination } = spec;
        Self { instance_id, volume_id, delete_on_termination }
    }
}

/// The place for one more volume of an instance whose places in `taken` are others'.
///
/// # Errors
/// There is none left.
pub fn place_for_volume(instance: &InstanceId, taken: &BTreeSet<u8>) -> Result<u8, Problem> {
    (1..=MAX_VOLUMES_PER_INSTANCE).find(|place| !taken.contains(place)).ok_or_else(|| {
        let message = format!(
            "{instance} has {MAX_VOLUMES_PER_INSTANCE} volumes, the most that an instance can have"
        );
        Problem::new(Reason::ResourceExhausted, message)
            .at("instance_id")
            .remedy("detach one of them first")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_gets_the_lowest_free_place() {
        let instance = InstanceId::from_random([1; 9]);
        let place = |taken: &[u8]| place_for_volume(&instance, &taken.iter().copied().collect());
        assert_eq!(place(&[]), Ok(1));
        assert_eq!(place(&[1, 2, 4]), Ok(3));
        let problem = place(&[1, 2, 3, 4, 5, 6, 7, 8]).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("instance_id"));
    }

    #[test]
    fn the_serial_fits_and_is_the_id() {
        let id: VolumeId = "vol-0123456789abcdef0".parse().unwrap();
        assert_eq!(id.serial(), "vol0123456789abcdef0");
        assert_eq!(id.serial().len(), 20);
        assert_eq!(id.device_path(), "/dev/disk/by-id/virtio-vol0123456789abcdef0");
    }
}
