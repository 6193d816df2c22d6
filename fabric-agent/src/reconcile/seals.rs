//! Snapshots that are to be made, of whatever disk: read off the world, and ended in one transaction
//! with the change of the disk's record, so that the store never knows a disk that is not there.

use std::collections::BTreeSet;

use weft_model::{
    LayerId, Problem, Record, SnapshotId, SnapshotSource, SnapshotSpec, SnapshotState, Timestamp,
};
use weft_planner::{Action, PendingSeal};
use weft_store::Txn;

use super::Reconciler;
use crate::cache::World;
use crate::error_chain::ErrorChain;
use crate::host::{Done, HostError};
use crate::repo::{Kind, Snapshots, Stored, encode, object_key};

type SnapshotRecord = Record<SnapshotId, SnapshotSpec>;

/// The snapshots of a disk that are to be made, the oldest first.
pub(super) fn pending(world: &World, source: &SnapshotSource) -> Vec<PendingSeal> {
    let is_of = |record: &SnapshotRecord| record.spec.is_pending() && record.spec.source == *source;
    let mut records: Vec<_> = world.snapshots.values().filter(|record| is_of(record)).collect();
    records.sort_by_key(|record| (record.created_at, record.id.clone()));
    let seal = |record: &SnapshotRecord| PendingSeal {
        snapshot_id: record.id.clone(),
        layer: record.spec.layer.clone(),
        taking: record.spec.taking,
    };
    records.into_iter().map(|record| seal(record)).collect()
}

/// Those of `layers` that no snapshot is to be made into any more.
pub(super) fn settled(world: &World, layers: &BTreeSet<LayerId>) -> BTreeSet<LayerId> {
    let pending: BTreeSet<&LayerId> = world
        .snapshots
        .values()
        .filter(|record| record.spec.is_pending())
        .map(|record| &record.spec.layer)
        .collect();
    layers.iter().filter(|layer| !pending.contains(layer)).cloned().collect()
}

/// What became of a snapshot.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The disk, of so many bytes, has been sealed into this layer.
    Sealed { layer: LayerId, size_bytes: u64, done: Done },
    /// Why it cannot be made.
    Failed(String),
}

/// Carries a seal out; what became of it is to be written down.
///
/// # Errors
/// The step failed, and may succeed when it is tried again.
pub(super) async fn carry_out(
    reconciler: &Reconciler,
    action: Action,
) -> Result<Outcome, HostError> {
    match (reconciler.host.apply(&action).await, action) {
        (
            Ok(done),
            Action::SealRootDisk { layer, size_bytes, .. }
            | Action::SealVolume { layer, size_bytes, .. },
        ) => Ok(Outcome::Sealed { layer, size_bytes, done }),
        (Ok(_), _) => Ok(Outcome::Failed("it was no snapshot; this is a defect".to_owned())),
        (Err(error), _) if !error.is_retryable() => {
            Ok(Outcome::Failed(ErrorChain(&error).to_string()))
        }
        (Err(error), _) => Err(error),
    }
}

/// Ends the snapshot `id` of the disk of `owner`, and gives the owner's record the layer, in one
/// transaction; `layers` is where the record has what the disk lies over.
pub(super) async fn write_down<K: Kind>(
    reconciler: &Reconciler,
    owner: &K::Id,
    id: &SnapshotId,
    outcome: Outcome,
    layers: fn(&mut K::Spec) -> &mut Vec<LayerId>,
) -> Result<(), Problem> {
    // Nobody has two turns: a change of the snapshot at the same moment makes one of both fail, and
    // be tried again.
    let _turn = reconciler.turns.object(&owner.to_string()).await;
    let before = reconciler.repo.get::<K>(owner).await?;
    let snapshot = reconciler.repo.get::<Snapshots>(id).await?;
    if !snapshot.value.spec.is_pending() {
        return Ok(());
    }
    let of = snapshot.value.spec.source.id().to_owned();
    let failed = match &outcome {
        Outcome::Sealed { done: Done::AsAsked, .. } => None,
        Outcome::Sealed { done: Done::InVain(why), .. } | Outcome::Failed(why) => Some(why.clone()),
    };
    let mut changed = before.value;
    let sealed = matches!(outcome, Outcome::Sealed { .. });
    let mut txn = settle(snapshot, outcome, layers(&mut changed.spec), reconciler.clock.now());
    if sealed {
        let key = object_key::<K>(owner);
        txn = txn.when_at(&key, before.revision).put(key, encode(&changed));
    }
    let revision = reconciler.repo.commit(txn).await?;
    match failed {
        None => tracing::info!(snapshot.id = %id, disk.of = of, "snapshot completed"),
        Some(why) => tracing::warn!(snapshot.id = %id, disk.of = of, why, "snapshot failed"),
    }
    reconciler.cache.reached(revision).await;
    Ok(())
}

/// The transaction that ends a pending snapshot. `layers` is what the disk lies over now; the layer that
/// it was sealed into is added.
fn settle(
    snapshot: Stored<SnapshotRecord>,
    outcome: Outcome,
    layers: &mut Vec<LayerId>,
    at: Timestamp,
) -> Txn {
    let Stored { value: mut record, revision } = snapshot;
    let key = object_key::<Snapshots>(&record.id);
    record.spec.state = match outcome {
        Outcome::Sealed { layer, size_bytes, done } => {
            layers.push(layer);
            record.spec.size_bytes = size_bytes;
            match done {
                Done::AsAsked => SnapshotState::Completed { layers: layers.clone(), at },
                Done::InVain(why) => SnapshotState::Error { why },
            }
        }
        Outcome::Failed(why) => SnapshotState::Error { why },
    };
    let txn = Txn::new().when_at(&key, revision);
    // It was asked to go while it was made.
    match record.deleting_since {
        Some(_) => txn.delete(key),
        None => txn.put(key, encode(&record)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_model::VolumeId;

    use super::*;
    use crate::testing;

    #[test]
    fn a_freeze_is_remembered_for_as_long_as_a_snapshot_of_whatever_disk_waits_for_it() {
        let layer = |n: u8| LayerId::from_random([n; 9]);
        let mut world = World::default();
        let done = SnapshotState::Completed { layers: vec![layer(2)], at: Timestamp::UNIX_EPOCH };
        for (n, state) in [(1, SnapshotState::Pending), (2, done)] {
            let source = SnapshotSource::Volume(VolumeId::from_random([1; 9]));
            let spec = testing::snapshot(source, layer(n), state);
            let record = testing::record(SnapshotId::from_random([n; 9]), spec);
            world.snapshots.insert(record.id.clone(), Arc::new(record));
        }
        // Of the third there is no snapshot any more.
        assert_eq!(settled(&world, &[1, 2, 3].map(layer).into()), [2, 3].map(layer).into());
    }
}
