//! Snapshots that are to be made, of whatever disk: read off the world, and ended in one transaction
//! with the change of the disk's record, so that the store never knows a disk that is not there.

use weft_model::{
    LayerId, Record, SnapshotId, SnapshotSource, SnapshotSpec, SnapshotState, Timestamp,
};
use weft_planner::PendingSeal;
use weft_store::Txn;

use crate::cache::World;
use crate::repo::{Snapshots, Stored, encode, object_key};

type SnapshotRecord = Record<SnapshotId, SnapshotSpec>;

/// The snapshots of a disk that are to be made, the oldest first.
pub(super) fn pending(world: &World, source: &SnapshotSource) -> Vec<PendingSeal> {
    let is_of = |record: &SnapshotRecord| record.spec.is_pending() && record.spec.source == *source;
    let mut records: Vec<_> = world.snapshots.values().filter(|record| is_of(record)).collect();
    records.sort_by_key(|record| (record.created_at, record.id.clone()));
    let seal = |record: &SnapshotRecord| PendingSeal {
        snapshot_id: record.id.clone(),
        layer: record.spec.layer.clone(),
        between_guests: record.spec.between_guests,
    };
    records.into_iter().map(|record| seal(record)).collect()
}

/// What became of a snapshot.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The disk, of so many bytes, has been sealed into this layer.
    Sealed { layer: LayerId, size_bytes: u64 },
    /// Why it cannot be made.
    Failed(String),
}

/// The transaction that ends a pending snapshot. `layers` is what the disk lies over now; the layer that
/// it was sealed into is added.
pub(super) fn settle(
    snapshot: Stored<SnapshotRecord>,
    outcome: Outcome,
    layers: &mut Vec<LayerId>,
    at: Timestamp,
) -> Txn {
    let Stored { value: mut record, revision } = snapshot;
    let key = object_key::<Snapshots>(&record.id);
    let (id, of) = (&record.id, record.spec.source.id());
    record.spec.state = match outcome {
        Outcome::Sealed { layer, size_bytes } => {
            tracing::info!(snapshot.id = %id, disk.of = of, "snapshot completed");
            layers.push(layer);
            record.spec.size_bytes = size_bytes;
            SnapshotState::Completed { layers: layers.clone(), at }
        }
        Outcome::Failed(why) => {
            tracing::warn!(snapshot.id = %id, disk.of = of, why, "snapshot failed");
            SnapshotState::Error { why }
        }
    };
    let txn = Txn::new().when_at(&key, revision);
    // It was asked to go while it was made.
    match record.deleting_since {
        Some(_) => txn.delete(key),
        None => txn.put(key, encode(&record)),
    }
}
