//! Snapshots of an instance's root disk: carried out before anything else is done about it, and
//! written down in one transaction, so that the store never knows a disk that is not there.

use weft_model::{
    InstanceId, LayerId, Problem, Record, SnapshotId, SnapshotSource, SnapshotSpec, SnapshotState,
};
use weft_planner::{GuestState, PendingSeal, SealStep, Wanted, plan_seal};
use weft_store::Txn;

use super::{Failure, Pass};
use crate::cache::World;
use crate::chain::Chain;
use crate::repo::{Instances, Snapshots, encode, object_key};

type SnapshotRecord = Record<SnapshotId, SnapshotSpec>;

/// The snapshots of the instance's root disk that are to be made, the oldest first.
fn pending(world: &World, id: &InstanceId) -> Vec<PendingSeal> {
    let is_of = |record: &SnapshotRecord| {
        record.spec.is_pending() && record.spec.source == SnapshotSource::RootDisk(id.clone())
    };
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
enum Outcome<'a> {
    /// The root disk has been sealed into this layer.
    Sealed(&'a LayerId),
    Failed(String),
}

impl Pass<'_> {
    /// Takes one step about pending snapshots. True: the instance is another one now, and has to be
    /// looked at anew.
    pub(super) async fn seal(
        &self,
        wanted: Wanted,
        root_disk: bool,
        guest: &GuestState,
    ) -> Result<bool, Failure> {
        let pending = pending(&self.reconciler.cache.read(), &self.record.id);
        let has_run = self.status.launched_at.is_some();
        let (id, outcome) =
            match plan_seal(self.record, wanted, &pending, root_disk, has_run, guest) {
                SealStep::Rest => return Ok(false),
                SealStep::Refuse(id, why) => (id, Outcome::Failed(why.to_owned())),
                SealStep::Seal(id, action) => {
                    let layer = pending.first().map(|seal| &seal.layer);
                    match (self.reconciler.host.apply(&action).await, layer) {
                        (Ok(()), Some(layer)) => (id, Outcome::Sealed(layer)),
                        (Err(error), _) if !error.is_retryable() => {
                            (id, Outcome::Failed(Chain(&error).to_string()))
                        }
                        (Err(error), _) => return Err(Failure::Step(error)),
                        (Ok(()), None) => return Ok(false),
                    }
                }
            };
        self.write_down(&id, outcome).await.map_err(Failure::Store)?;
        Ok(true)
    }

    async fn write_down(&self, id: &SnapshotId, outcome: Outcome<'_>) -> Result<(), Problem> {
        let reconciler = self.reconciler;
        // Nobody has two turns: a change of the snapshot at the same moment makes one of both fail,
        // and be tried again.
        let _turn = reconciler.turns.object(self.record.id.as_str()).await;
        let instance = reconciler.repo.get::<Instances>(&self.record.id).await?;
        let snapshot = reconciler.repo.get::<Snapshots>(id).await?;
        if !snapshot.value.spec.is_pending() {
            return Ok(());
        }
        let key = object_key::<Snapshots>(id);
        let mut txn = Txn::new().when_at(&key, snapshot.revision);
        let mut record = snapshot.value;
        match outcome {
            Outcome::Sealed(layer) => {
                let mut changed = instance.value;
                changed.spec.root_layers.push(layer.clone());
                let layers = changed.spec.root_layers.clone();
                record.spec.state = SnapshotState::Completed { layers, at: reconciler.clock.now() };
                let key = object_key::<Instances>(&self.record.id);
                txn = txn.when_at(&key, instance.revision).put(key, encode(&changed));
                tracing::info!(snapshot.id = %id, instance.id = %self.record.id, "snapshot completed");
            }
            Outcome::Failed(why) => {
                tracing::warn!(snapshot.id = %id, instance.id = %self.record.id, why, "snapshot failed");
                record.spec.state = SnapshotState::Error { why };
            }
        }
        // It was asked to go while it was made.
        txn = match record.deleting_since {
            Some(_) => txn.delete(key),
            None => txn.put(key, encode(&record)),
        };
        let revision = reconciler.repo.commit(txn).await?;
        reconciler.cache.reached(revision).await;
        Ok(())
    }
}
