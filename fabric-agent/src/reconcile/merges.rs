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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use weft_model::{
    ImageBase, InstanceId, LayerId, Merge, Problem, SnapshotSpec, SnapshotState, VolumeId,
};
use weft_planner::{Action, plan_merge};
use weft_store::Txn;

use super::Reconciler;
use crate::cache::World;
use crate::chain::Chain;
use crate::host::HostError;
use crate::random;
use crate::repo::{
    Instances, Kind as _, MERGES, Repo, Snapshots, Volumes, decode, encode, merge_key, object_key,
};

/// Between two looks when nothing changes: room may have come, or a guest that refused has ended.
const RESYNC: Duration = Duration::from_secs(60);

/// What is being merged.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    inner: Mutex<Inner>,
    /// One has ended: there are layers that nothing lies over.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// By what they become; whether that is written.
    open: BTreeMap<LayerId, (Merge, bool)>,
    /// Layers that cannot be merged with what lies over them, until the agent is started again.
    apart: BTreeSet<LayerId>,
    /// Guests, by their launch, that refused to go over.
    refused: BTreeSet<(InstanceId, u64, LayerId)>,
    /// Why nothing is merged now, for people.
    trouble: Option<String>,
    /// Whether writing has failed since the last [`RESYNC`].
    failed: bool,
}

impl Merges {
    /// What agents before this one have chosen.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn load(repo: &Repo) -> Result<Self, Problem> {
        let listing = repo.store().list(MERGES).await.map_err(crate::repo::store_problem)?;
        let merges = listing.items.iter().map(|item| decode::<Merge>(&item.key, &item.value));
        let open = merges
            .map(|merge| merge.map(|merge| (merge.merged.clone(), (merge, false))))
            .collect::<Result<_, _>>()?;
        let inner = Mutex::new(Inner { open, ..Inner::default() });
        Ok(Self { inner, ended: Notify::new() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a merge has ended since the last time.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// The layers that are being written, or were and are not yet in each record that they belong in.
    pub(super) fn layers(&self) -> BTreeSet<LayerId> {
        self.inner().open.keys().cloned().collect()
    }

    /// Why nothing is merged though it should be: for people.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.inner().trouble.clone()
    }

    /// Notes how writing the new layer ended; whether the merge is still to be made.
    fn note(&self, merge: &Merge, written: Result<(), HostError>) -> bool {
        let mut inner = self.inner();
        let error = match written {
            Ok(()) => {
                inner.trouble = None;
                if let Some(open) = inner.open.get_mut(&merge.merged) {
                    open.1 = true;
                }
                return true;
            }
            Err(error) => error,
        };
        let why = Chain(&error).to_string();
        if !error.is_retryable() {
            tracing::info!(layer.id = %merge.merged, error = why, "layers are left as they are");
            // Perhaps what lies over the lowest can be merged.
            inner.apart.extend(merge.layers.first().cloned());
            return false;
        }
        if inner.trouble.as_ref() != Some(&why) {
            tracing::warn!(layer.id = %merge.merged, error = why, "merging layers has to wait");
        }
        (inner.trouble, inner.failed) = (Some(why), true);
        true
    }

    /// Whether a disk over these layers has one to go over to.
    pub(super) fn concern(&self, chain: &[LayerId]) -> bool {
        self.for_chain(chain).is_some()
    }

    /// A merge that is written and that this disk has not gone over to.
    fn for_chain(&self, chain: &[LayerId]) -> Option<Merge> {
        let inner = self.inner();
        let mut written = inner.open.values().filter(|(_, written)| *written);
        written.find(|(merge, _)| merge.position_in(chain).is_some()).map(|(it, _)| it.clone())
    }
}

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
                _ = resync.tick() => {
                    reconciler.merges.inner().failed = false;
                    break;
                }
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

/// Carries what was chosen as far as it can go now, and chooses what comes next.
async fn look(reconciler: &Reconciler) -> Result<(), Problem> {
    loop {
        let open: Vec<Merge> = {
            let inner = reconciler.merges.inner();
            inner.open.values().map(|(merge, _)| merge.clone()).collect()
        };
        for merge in &open {
            if is_over(reconciler, merge) {
                close(reconciler, merge).await?;
            } else if write(reconciler, merge).await? {
                go_over(reconciler, merge).await?;
            }
        }
        if reconciler.merges.inner().open.values().any(|(_, written)| !written) {
            return Ok(());
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
        let inner = reconciler.merges.inner();
        let mut busy = inner.apart.clone();
        busy.extend(encrypted(&world).flatten().cloned());
        for (merge, _) in inner.open.values() {
            busy.extend(merge.layers.iter().cloned());
            busy.insert(merge.merged.clone());
        }
        let in_use = held.iter().map(SnapshotSpec::layers);
        let chains: Vec<&[LayerId]> = chains(&world).chain(in_use).collect();
        plan_merge(&chains, &busy)
    };
    let Some(layers) = layers else {
        reconciler.merges.inner().trouble = None;
        return Ok(false);
    };
    let merge = Merge { merged: LayerId::from_random(random::bytes()), layers };
    let key = merge_key(&merge.merged);
    let txn = Txn::new().keeping_reserve().when_absent(&key).put(key, encode(&merge));
    // Known before it is stored: what is written is never taken for a stray.
    reconciler.merges.inner().open.insert(merge.merged.clone(), (merge.clone(), false));
    let chosen = reconciler.repo.commit(txn).await;
    if chosen.is_err() {
        reconciler.merges.inner().open.remove(&merge.merged);
    }
    chosen?;
    tracing::info!(layer.id = %merge.merged, layers = merge.layers.len(), "merging layers");
    Ok(true)
}

/// Writes the new layer; whether it is there.
async fn write(reconciler: &Reconciler, merge: &Merge) -> Result<bool, Problem> {
    let is_written = reconciler.merges.inner().open.get(&merge.merged).is_some_and(|it| it.1);
    if is_written {
        return Ok(true);
    }
    if reconciler.merges.inner().failed {
        return Ok(false);
    }
    let Some((base, below)) = below(&reconciler.cache.read(), merge) else { return Ok(false) };
    let action = Action::MergeLayers { merge: merge.clone(), base, below };
    let written = reconciler.host.apply(&action).await;
    let is_written = written.is_ok();
    if !reconciler.merges.note(merge, written) {
        forget(reconciler, merge).await?;
    }
    Ok(is_written)
}

/// What lies below the layers of a merge.
fn below(world: &World, merge: &Merge) -> Option<(Option<ImageBase>, Vec<LayerId>)> {
    let of = |base: Option<ImageBase>, chain: &[LayerId]| {
        let place = merge.position_in(chain)?;
        Some((base, chain[..place.start].to_vec()))
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
    {
        // Who makes a volume of one of them has stored that before, or reads what is stored here.
        let _guard = reconciler.references.write().await;
        let ids: Vec<_> = {
            let world = reconciler.cache.read();
            let has = |spec: &SnapshotSpec| merge.position_in(spec.layers()).is_some();
            let those = world.snapshots.values().filter(|record| has(&record.spec));
            those.map(|record| record.id.clone()).collect()
        };
        let (mut txn, mut any) = (Txn::new(), false);
        for id in ids {
            let Some(mut stored) = reconciler.repo.find::<Snapshots>(&id).await? else { continue };
            let SnapshotState::Completed { layers, .. } = &mut stored.value.spec.state else {
                continue;
            };
            any |= merge.replace_in(layers);
            let key = object_key::<Snapshots>(&id);
            txn = txn.when_at(&key, stored.revision).put(key, encode(&stored.value));
        }
        if any {
            // Who changes one at this moment is faster: its change is looked at.
            let revision = reconciler.repo.commit(txn).await?;
            reconciler.cache.reached(revision).await;
        }
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
    {
        let mut inner = reconciler.merges.inner();
        inner.open.remove(&merge.merged);
        inner.refused.retain(|(_, _, layer)| *layer != merge.merged);
    }
    reconciler.merges.ended.notify_one();
    tracing::info!(layer.id = %merge.merged, "done with merging layers");
    Ok(())
}
