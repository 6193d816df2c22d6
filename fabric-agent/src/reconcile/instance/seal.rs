//! Snapshots of an instance's root disk: carried out before anything else is done about it.

use weft_model::{Problem, SnapshotId, SnapshotSource};
use weft_planner::{Action, SealStep, Wanted, plan_seal};

use super::{Failure, Pass};
use crate::chain::Chain;
use crate::host::SeenGuest;
use crate::reconcile::seals::{Outcome, pending, settle};
use crate::repo::{Instances, Snapshots, encode, object_key};

impl Pass<'_> {
    /// Takes one step about pending snapshots. True: the instance is another one now, and has to be
    /// looked at anew.
    pub(super) async fn seal(&self, wanted: Wanted, seen: &SeenGuest) -> Result<bool, Failure> {
        // One whose header cannot be read is the next start's to tell of.
        let as_recorded = || seen.root_disk.then(|| self.record.spec.root_size_bytes());
        let (root_bytes, guest) = (seen.root_bytes.or_else(as_recorded), &seen.guest);
        let source = SnapshotSource::RootDisk(self.record.id.clone());
        let pending = pending(&self.reconciler.cache.read(), &source);
        let has_run = self.status.launched_at.is_some();
        let (id, outcome) =
            match plan_seal(self.record, wanted, &pending, root_bytes, has_run, guest) {
                SealStep::Rest => return Ok(false),
                SealStep::Refuse(id, why) => (id, Outcome::Failed(why.to_owned())),
                SealStep::Seal(id, action) => {
                    let applied = self.reconciler.host.apply(&action).await;
                    match (applied, *action) {
                        (Ok(()), Action::SealRootDisk { layer, size_bytes, .. }) => {
                            (id, Outcome::Sealed { layer, size_bytes })
                        }
                        (Err(error), _) if !error.is_retryable() => {
                            (id, Outcome::Failed(Chain(&error).to_string()))
                        }
                        (Err(error), _) => return Err(Failure::Step(error)),
                        (Ok(()), _) => return Ok(false),
                    }
                }
            };
        self.write_down(&id, outcome).await.map_err(Failure::Store)?;
        Ok(true)
    }

    async fn write_down(&self, id: &SnapshotId, outcome: Outcome) -> Result<(), Problem> {
        let reconciler = self.reconciler;
        // Nobody has two turns: a change of the snapshot at the same moment makes one of both fail,
        // and be tried again.
        let _turn = reconciler.turns.object(self.record.id.as_str()).await;
        let instance = reconciler.repo.get::<Instances>(&self.record.id).await?;
        let snapshot = reconciler.repo.get::<Snapshots>(id).await?;
        if !snapshot.value.spec.is_pending() {
            return Ok(());
        }
        let mut changed = instance.value;
        let sealed = matches!(outcome, Outcome::Sealed { .. });
        let layers = &mut changed.spec.root_layers;
        let mut txn = settle(snapshot, outcome, layers, reconciler.clock.now());
        if sealed {
            let key = object_key::<Instances>(&self.record.id);
            txn = txn.when_at(&key, instance.revision).put(key, encode(&changed));
        }
        let revision = reconciler.repo.commit(txn).await?;
        reconciler.cache.reached(revision).await;
        Ok(())
    }
}
