//! Every snapshot that the model allows and the wire can carry.

use proptest::option;
use proptest::prelude::*;
use weft_model::{
    Consistency, SnapshotId, SnapshotOrder, SnapshotProgress, SnapshotSource, SnapshotView,
    Timestamp,
};

use super::{instance_id, printable, volume_id, word};

pub(crate) fn snapshot_id() -> impl Strategy<Value = SnapshotId> {
    any::<[u8; 9]>().prop_map(SnapshotId::from_random)
}

pub(crate) fn snapshot_order() -> impl Strategy<Value = SnapshotOrder> {
    let source = prop_oneof![
        instance_id().prop_map(SnapshotSource::RootDisk),
        volume_id().prop_map(SnapshotSource::Volume),
    ];
    (source, printable(), word(Consistency::WORDS)).prop_map(
        |(source, description, consistency)| SnapshotOrder { source, description, consistency },
    )
}

pub(crate) fn snapshot_view() -> impl Strategy<Value = SnapshotView> {
    let reason = option::of("[a-z ]{1,40}");
    let at = option::of(
        (0_i64..4_000_000_000_000).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap()),
    );
    let progress = word(SnapshotProgress::WORDS);
    (snapshot_order(), progress, reason, any::<u64>(), at, any::<bool>()).prop_map(
        |(order, progress, reason, size_bytes, completed_at, encrypted)| SnapshotView {
            order,
            progress,
            reason,
            size_bytes,
            completed_at,
            encrypted,
        },
    )
}
