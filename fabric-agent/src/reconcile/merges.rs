//! Layers that nobody needs apart become one, see [`weft_planner::plan_merge`]. Those of encrypted
//! volumes stay as they are.
//!
//! ```text
//!   chosen    the store has it: what is written from now on is known to somebody
//!   written   the new layer is there as a whole; each disk and snapshot goes over to it by itself
//!   over      no record names the old layers: they go as all layers do that nothing lies over
//! ```
//!
//! A root disk goes over in its instance's pass, a volume in its own, snapshots here. Both layers show
//! the same, so it does not matter who has gone over and who has not, nor who dies meanwhile.

mod going_over;
mod open;

use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use weft_model::{
    Below, ImageBase, InstanceId, LayerId, Merge, Problem, SnapshotId, SnapshotSpec, SnapshotState,
    VolumeId,
};
use weft_planner::{Action, plan_merge};
use weft_store::Txn;

use super::Reconciler;
use crate::cache::World;
use crate::random;
use crate::repo::{Instances, Kind as _, Snapshots, Volumes, encode, merge_key};
pub(crate) use open::Merges;

/// Between two looks when nothing changes: room may have come, or a guest that refused has ended.
const RESYNC: Duration = Duration::from_secs(60);

pub(super) async fn run(reconciler: &Reconciler, shutdown: CancellationToken) {
    let mut changes = reconciler.cache.changes();
    let mut resync = tokio::time::interval(RESYNC);
    loop {
        // Nothing is lost where a copy breaks off: it is begun anew, and a transaction is one.
        tokio::select! {
            () = shutdown.cancelled() => return,
            looked = look(reconciler) => if let Err(problem) = looked {
                tracing::warn!(error = %problem, "layers could not be merged");
            },
        }
        loop {
            // Every arm is cancel safe.
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = resync.tick() => break,
                change = changes.recv() => match change {
                    Ok(change) if [Instances::NAME, Snapshots::NAME, Volumes::NAME]
                        .contains(&change.kind.as_str()) => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// Carries what was chosen as far as it can go now, and chooses what comes next: what has to wait holds
/// up nothing else.
async fn look(reconciler: &Reconciler) -> Result<(), Problem> {
    loop {
        for merge in &reconciler.merges.open() {
            if is_over(reconciler, merge) {
                close(reconciler, merge).await?;
            } else if write(reconciler, merge).await? {
                go_over(reconciler, merge).await?;
            }
        }
        if !choose(reconciler).await? {
            return Ok(());
        }
    }
}

/// Every chain of layers that some record has.
fn chains(world: &World) -> impl Iterator<Item = &[LayerId]> {
    let of_instances = world.instances.values().map(|it| it.spec.root_layers.as_slice());
    let of_volumes = world.volumes.values().map(|it| it.spec.layers.as_slice());
    let of_snapshots = world.snapshots.values().map(|it| it.spec.layers());
    of_instances.chain(of_volumes).chain(of_snapshots)
}

/// The chains that are encrypted: copying a layer for the merge decrypts nothing.
fn encrypted(world: &World) -> impl Iterator<Item = &[LayerId]> {
    let volumes = world.volumes.values().filter(|it| it.spec.secret.is_some());
    let snapshots = world.snapshots.values().filter(|it| it.spec.secret.is_some());
    let of_snapshots = snapshots.map(|it| it.spec.layers());
    volumes.map(|it| it.spec.layers.as_slice()).chain(of_snapshots)
}

/// Whether nobody has the old layers.
fn is_over(reconciler: &Reconciler, merge: &Merge) -> bool {
    let held = reconciler.captures.held();
    let in_use = held.iter().map(SnapshotSpec::layers);
    !chains(&reconciler.cache.read()).chain(in_use).any(|chain| merge.position_in(chain).is_some())
}

/// Chooses what is merged next; whether there is anything.
async fn choose(reconciler: &Reconciler) -> Result<bool, Problem> {
    let held = reconciler.captures.held();
    let layers = {
        let world = reconciler.cache.read();
        let in_use = held.iter().map(SnapshotSpec::layers);
        let chains: Vec<&[LayerId]> = chains(&world).chain(in_use).collect();
        let mut busy = reconciler.merges.busy(&chains, Instant::now());
        busy.extend(encrypted(&world).flatten().cloned());
        plan_merge(&chains, &busy)
    };
    let Some(layers) = layers else { return Ok(false) };
    let merge = Merge { merged: LayerId::from_random(random::bytes()), layers };
    let key = merge_key(&merge.merged);
    let txn = Txn::new().keeping_reserve().when_absent(&key).put(key, encode(&merge));
    // Known before it is stored: what is written is never taken for a stray.
    reconciler.merges.begin(&merge);
    if let Err(problem) = reconciler.repo.commit(txn).await {
        reconciler.merges.take_back(&merge);
        return Err(problem);
    }
    tracing::info!(layer.id = %merge.merged, layers = merge.layers.len(), "merging layers");
    Ok(true)
}

/// Writes the new layer; whether it is there.
async fn write(reconciler: &Reconciler, merge: &Merge) -> Result<bool, Problem> {
    if reconciler.merges.is_written(merge) {
        return Ok(true);
    }
    if !reconciler.merges.is_due(merge, Instant::now()) {
        return Ok(false);
    }
    let Some(below) = below(&reconciler.cache.read(), merge) else { return Ok(false) };
    let action = Action::MergeLayers { merge: merge.clone(), below };
    let written = reconciler.host.apply(&action).await;
    let is_written = written.is_ok();
    if !reconciler.merges.note(merge, written.map(drop), Instant::now()) {
        forget(reconciler, merge).await?;
    }
    Ok(is_written)
}

/// What lies below the layers of a merge.
fn below(world: &World, merge: &Merge) -> Option<Below> {
    let of = |base: Option<ImageBase>, chain: &[LayerId]| {
        let place = merge.position_in(chain)?;
        Some(Below { base, layers: chain[..place.start].to_vec() })
    };
    let mut instances = world.instances.values().map(|it| {
        let image = &it.spec.image;
        let base = ImageBase { digest: image.disk, format: image.format };
        of(Some(base), &it.spec.root_layers)
    });
    let mut volumes = world.volumes.values().map(|it| of(it.spec.base.clone(), &it.spec.layers));
    let mut snapshots =
        world.snapshots.values().map(|it| of(it.spec.base.clone(), it.spec.layers()));
    instances
        .find_map(|it| it)
        .or_else(|| volumes.find_map(|it| it))
        .or_else(|| snapshots.find_map(|it| it))
}

/// Has all who have the old layers go over: snapshots now, disks when their passes come.
async fn go_over(reconciler: &Reconciler, merge: &Merge) -> Result<(), Problem> {
    let snapshots: Vec<SnapshotId> = {
        let world = reconciler.cache.read();
        let has = |spec: &SnapshotSpec| merge.position_in(spec.layers()).is_some();
        let those = world.snapshots.values().filter(|record| has(&record.spec));
        those.map(|record| record.id.clone()).collect()
    };
    for id in &snapshots {
        // Who makes a volume of it has stored that before, or reads what is stored here.
        let _guard = reconciler.references.write().await;
        reconciler.write_merged::<Snapshots>(id, merge, layers_of).await?;
    }
    let (instances, volumes): (Vec<InstanceId>, Vec<VolumeId>) = {
        let world = reconciler.cache.read();
        let has = |chain: &[LayerId]| merge.position_in(chain).is_some();
        let instances = world.instances.values().filter(|it| has(&it.spec.root_layers));
        let volumes = world.volumes.values().filter(|it| has(&it.spec.layers));
        (instances.map(|it| it.id.clone()).collect(), volumes.map(|it| it.id.clone()).collect())
    };
    instances.iter().for_each(|id| reconciler.look_at(id));
    volumes.into_iter().for_each(|id| reconciler.volumes.look_at(id));
    if is_over(reconciler, merge) {
        close(reconciler, merge).await?;
    }
    Ok(())
}

fn layers_of(snapshot: &mut SnapshotSpec) -> Option<&mut Vec<LayerId>> {
    match &mut snapshot.state {
        SnapshotState::Completed { layers, .. } => Some(layers),
        SnapshotState::Pending | SnapshotState::Error { .. } => None,
    }
}

/// Ends a merge whose old layers nobody has. What is left of it goes with the layers that nothing lies
/// over.
async fn close(reconciler: &Reconciler, merge: &Merge) -> Result<(), Problem> {
    // As above: nobody is about to store what was read before.
    let _guard = reconciler.references.write().await;
    if !is_over(reconciler, merge) {
        return Ok(());
    }
    forget(reconciler, merge).await
}

async fn forget(reconciler: &Reconciler, merge: &Merge) -> Result<(), Problem> {
    reconciler.repo.commit(Txn::new().delete(merge_key(&merge.merged))).await?;
    reconciler.merges.end(merge);
    tracing::info!(layer.id = %merge.merged, "done with merging layers");
    Ok(())
}

#[cfg(test)]
mod tests;
