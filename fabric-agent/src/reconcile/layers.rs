//! Layers of disks go with the last of those that lie over them: instances, volumes and snapshots.

use std::collections::BTreeSet;

use weft_model::{LayerId, Problem, SnapshotId, SnapshotSource, SnapshotState};
use weft_planner::Action;
use weft_store::Txn;

use super::Reconciler;
use crate::cache::World;
use crate::error_chain::ErrorChain;
use crate::repo::{RecordOf, Snapshots, encode, object_key};

/// Removes layers that nothing lies over, and settles snapshots that nobody will make any more.
pub(super) async fn sweep(reconciler: &Reconciler) {
    give_up(reconciler).await;
    forget_captures(reconciler).await;
    // Listed before it is asked who needs them: one that comes meanwhile is not among them, and a
    // record that needs one is there before it is.
    let present = match reconciler.host.layers().await {
        Ok(present) => present,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot list the layers of disks");
            return;
        }
    };
    // Before the records: a layer that is no longer among these is in them.
    let mut kept = reconciler.merges.layers();
    kept.extend(needed(&reconciler.cache.read()));
    kept.extend(reconciler.captures.held().iter().flat_map(|it| it.layers().to_vec()));
    for layer in present.difference(&kept) {
        tracing::info!(layer.id = %layer, "removing a layer that nothing lies over");
        let action = Action::RemoveLayer { layer: layer.clone() };
        if let Err(error) = reconciler.host.apply(&action).await {
            tracing::warn!(layer.id = %layer, error = %ErrorChain(&error), "removing a layer failed");
        }
    }
}

/// Every layer that some record needs.
fn needed(world: &World) -> BTreeSet<LayerId> {
    let of_instances = world.instances.values().flat_map(|record| &record.spec.root_layers);
    let of_snapshots = world.snapshots.values().flat_map(|record| record.spec.layers());
    let of_volumes = world.volumes.values().flat_map(|record| &record.spec.layers);
    of_instances.chain(of_snapshots).chain(of_volumes).cloned().collect()
}

/// Pending snapshots of what does not exist any more: instances and volumes settle theirs before they
/// go, so there are none unless the store was tampered with.
async fn give_up(reconciler: &Reconciler) {
    let orphans: Vec<_> = {
        let world = reconciler.cache.read();
        let exists = |source: &SnapshotSource| match source {
            SnapshotSource::RootDisk(id) => world.instances.contains_key(id),
            SnapshotSource::Volume(id) => world.volumes.contains_key(id),
        };
        let is_orphan =
            |spec: &weft_model::SnapshotSpec| spec.is_pending() && !exists(&spec.source);
        let orphans = world.snapshots.values().filter(|record| is_orphan(&record.spec));
        orphans.map(|record| record.id.clone()).collect()
    };
    for id in orphans {
        let _turn = reconciler.turns.object(id.as_str()).await;
        let Ok(Some(mut stored)) = reconciler.repo.find::<Snapshots>(&id).await else { continue };
        let why = format!("{} does not exist any more", stored.value.spec.source.id());
        stored.value.spec.state = SnapshotState::Error { why };
        let key = object_key::<Snapshots>(&id);
        let txn = Txn::new().when_at(&key, stored.revision).put(key, encode(&stored.value));
        if let Err(problem) = reconciler.repo.commit(txn).await {
            tracing::warn!(snapshot.id = %id, error = %problem, "a snapshot could not be given up");
        }
    }
}

/// What captures have left that nobody goes on with: their snapshots, and pieces of files. A client
/// that was waiting when the agent died has asked again by now.
async fn forget_captures(reconciler: &Reconciler) {
    let in_use = reconciler.captures.in_use();
    let left: Vec<_> = {
        let world = reconciler.cache.read();
        let is_left = |record: &RecordOf<Snapshots>| {
            let age = reconciler.clock.now().duration_since(record.created_at);
            record.spec.for_image.is_some()
                && !record.spec.is_pending()
                && !in_use.contains(&record.id)
                && age.unsigned_abs() >= reconciler.config.sweep_grace
        };
        let left = world.snapshots.values().filter(|record| is_left(record));
        left.map(|record| record.id.clone()).collect()
    };
    // Who asks for one of them again just now begins anew.
    for id in left.into_iter().filter(|id| reconciler.captures.let_go(id)) {
        tracing::info!(snapshot.id = %id, "removing the snapshot of an image that nobody goes on with");
        if let Err(problem) = forget_snapshot(reconciler, &id).await {
            tracing::warn!(snapshot.id = %id, error = %problem, "removing it failed");
        }
        reconciler.captures.swept(&id);
    }
    let pieces = match reconciler.host.captures().await {
        Ok(pieces) => pieces,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot list what images are made of");
            return;
        }
    };
    // Who begins one has it in use before: asked after they were listed, as above.
    let in_use: BTreeSet<String> =
        reconciler.captures.in_use().iter().map(ToString::to_string).collect();
    for name in pieces.difference(&in_use) {
        tracing::info!(name, "removing a part of an image that nobody goes on with");
        let action = Action::AbandonCapture { name: name.clone() };
        if let Err(error) = reconciler.host.apply(&action).await {
            tracing::warn!(name, error = %ErrorChain(&error), "removing it failed");
        }
    }
}

async fn forget_snapshot(reconciler: &Reconciler, id: &SnapshotId) -> Result<(), Problem> {
    let _turn = reconciler.turns.object(id.as_str()).await;
    let Some(stored) = reconciler.repo.find::<Snapshots>(id).await? else { return Ok(()) };
    let key = object_key::<Snapshots>(id);
    let txn = Txn::new().when_at(&key, stored.revision).delete(key);
    reconciler.repo.commit(txn).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_model::{InstanceId, Record, SnapshotSpec, Timestamp};

    use super::*;
    use crate::testing;

    fn layer(n: u8) -> LayerId {
        LayerId::from_random([n; 9])
    }

    fn snapshot(n: u8, state: SnapshotState) -> Record<SnapshotId, SnapshotSpec> {
        let source = SnapshotSource::RootDisk(InstanceId::from_random([1; 9]));
        let spec = testing::snapshot(source, layer(n), state);
        testing::record(SnapshotId::from_random([n; 9]), spec)
    }

    #[test]
    fn what_a_record_needs_stays_also_while_it_is_being_made() {
        let completed = SnapshotState::Completed {
            layers: vec![layer(7), layer(2)],
            at: Timestamp::UNIX_EPOCH,
        };
        let mut world = World::default();
        for record in [
            snapshot(2, completed),
            snapshot(3, SnapshotState::Pending),
            snapshot(4, SnapshotState::Error { why: "the disk is full".to_owned() }),
        ] {
            world.snapshots.insert(record.id.clone(), Arc::new(record));
        }
        let mut instance = testing::instance(1, 1, None);
        instance.spec.root_layers = vec![layer(7), layer(2), layer(5)];
        world.put_instance(instance);
        assert_eq!(needed(&world), [2, 3, 5, 7].map(layer).into());
    }
}
