//! Volumes and their attachments.

use proptest::option;
use proptest::prelude::*;
use weft_model::{
    DISK_GIB, DISK_IOPS, DISK_MIBPS, DiskLimits, ImageId, PoolName, VolumeAttachmentId,
    VolumeAttachmentOrder, VolumeOrder, VolumeSource, VolumeState, VolumeView,
};

use super::snapshots::snapshot_id;
use super::{instance_id, name, printable, volume_id, word};

fn pool() -> impl Strategy<Value = PoolName> {
    "[a-z][a-z0-9-]{0,31}".prop_map(|text| text.parse().unwrap())
}

fn source() -> impl Strategy<Value = VolumeSource> {
    prop_oneof![
        snapshot_id().prop_map(VolumeSource::Snapshot),
        any::<[u8; 9]>().prop_map(|random| VolumeSource::Image(ImageId::from_random(random))),
    ]
}

pub(crate) fn volume_order() -> impl Strategy<Value = VolumeOrder> {
    let encrypted = option::of(any::<bool>());
    (
        option::of(name()),
        DISK_GIB,
        option::of(pool()),
        option::of(source()),
        disk_limits(),
        encrypted,
    )
        .prop_map(|(name, size_gib, volume_type, source, limits, encrypted)| VolumeOrder {
            name,
            size_gib,
            volume_type,
            source,
            limits,
            encrypted,
        })
}

pub(crate) fn disk_limits() -> impl Strategy<Value = DiskLimits> {
    (option::of(DISK_IOPS), option::of(DISK_MIBPS))
        .prop_map(|(iops, throughput_mibps)| DiskLimits { iops, throughput_mibps })
}

pub(crate) fn volume_view() -> impl Strategy<Value = VolumeView> {
    let state = word(VolumeState::WORDS);
    (volume_order(), state, option::of(printable()), option::of(instance_id())).prop_map(
        |(order, state, reason, instance_id)| VolumeView { order, state, reason, instance_id },
    )
}

pub(crate) fn volume_attachment_id() -> impl Strategy<Value = VolumeAttachmentId> {
    (instance_id(), volume_id()).prop_map(|(first, second)| VolumeAttachmentId::new(first, second))
}

pub(crate) fn volume_attachment() -> impl Strategy<Value = VolumeAttachmentOrder> {
    (instance_id(), volume_id(), any::<bool>()).prop_map(
        |(instance_id, volume_id, delete_on_termination)| VolumeAttachmentOrder {
            instance_id,
            volume_id,
            delete_on_termination,
        },
    )
}
