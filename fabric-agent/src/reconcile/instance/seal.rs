//! Snapshots of an instance's root disk: carried out before anything else is done about it.

use weft_model::SnapshotSource;
use weft_planner::{Action, SealStep, Wanted, plan_seal};

use super::{Failure, Pass};
use crate::error_chain::ErrorChain;
use crate::host::SeenGuest;
use crate::reconcile::seals::{Outcome, carry_out, pending, settled, write_down};
use crate::repo::Instances;

impl Pass<'_> {
    /// Takes one step about pending snapshots. True: the instance is another one now, and has to be
    /// looked at anew.
    pub(super) async fn seal(&self, wanted: Wanted, seen: &SeenGuest) -> Result<bool, Failure> {
        let source = SnapshotSource::RootDisk(self.record.id.clone());
        let pending = {
            let world = self.reconciler.cache.read();
            let pending = pending(&world, &source);
            if pending.is_empty() {
                return Ok(false);
            }
            // What was stored with a snapshot says which guest it is taken after: to a record from
            // before that, the one that is to shut down first is the one that is to run.
            if world.instances.get(&self.record.id).is_none_or(|now| **now != *self.record) {
                return Ok(true);
            }
            pending
        };
        // One whose header cannot be read is the next start's to tell of.
        let as_recorded = || seen.root_disk.then(|| self.record.spec.root_size_bytes());
        let root_bytes = self.reconciler.host.root_disk_bytes(&self.record.id).await;
        let (root_bytes, guest) = (root_bytes.or_else(as_recorded), &seen.guest);
        let has_run = self.status.launched_at.is_some();
        let (id, outcome) =
            match plan_seal(self.record, wanted, &pending, root_bytes, has_run, guest) {
                SealStep::Rest => return Ok(false),
                SealStep::Refuse(id, why) => (id, Outcome::Failed(why.to_owned())),
                SealStep::Seal(id, action) => {
                    let outcome = carry_out(self.reconciler, *action).await;
                    (id, outcome.map_err(Failure::Step)?)
                }
            };
        let written =
            write_down::<Instances>(self.reconciler, &self.record.id, &id, outcome, |spec| {
                &mut spec.root_layers
            })
            .await;
        written.map_err(Failure::Store)?;
        Ok(true)
    }

    /// Tidies up what was written down of freezes whose snapshots are made. What stays is of no harm.
    pub(super) async fn forget_freezes(&self, seen: &SeenGuest) {
        // Seen before this: what was sealed since then is not among them.
        let layers = settled(&self.reconciler.cache.read(), &seen.layers_of_freezes);
        if layers.is_empty() {
            return;
        }
        let instance_id = self.record.id.clone();
        let forget = Action::ForgetFreezes { instance_id, layers };
        if let Err(error) = self.reconciler.host.apply(&forget).await {
            let error = ErrorChain(&error).to_string();
            tracing::warn!(instance.id = %self.record.id, error, "a note of a freeze stays");
        }
    }

    /// Has the root disk go over to what its layers were merged into. True: as above.
    pub(super) async fn merge(&self, seen: &SeenGuest) -> Result<bool, Failure> {
        if self.record.deleting_since.is_some() {
            return Ok(false);
        }
        self.reconciler.merge_root(self.record, &seen.guest).await.map_err(Failure::Store)
    }
}

#[cfg(test)]
mod tests {
    use weft_model::{LayerId, SnapshotId, SnapshotSpec, SnapshotState, Taking};
    use weft_planner::GuestState;

    use super::*;
    use crate::repo::Snapshots;
    use crate::testing::{self, Simulation};

    #[tokio::test]
    async fn a_pass_that_began_before_a_capture_takes_nothing_of_the_guest_that_is_to_shut_down() {
        let dir = tempfile::tempdir().unwrap();
        let simulation = Simulation::begin(dir.path()).await;
        let before = testing::instance(1, 0, None);
        simulation.put::<Instances>(&before).await;
        let mut after = before.clone();
        after.spec.run_epoch += 1;
        after.generation += 1;
        simulation.put::<Instances>(&after).await;
        let id = SnapshotId::from_random([1; 9]);
        let spec = SnapshotSpec {
            taking: Taking::BetweenGuests,
            ..testing::snapshot(
                SnapshotSource::RootDisk(before.id.clone()),
                LayerId::from_random([1; 9]),
                SnapshotState::Pending,
            )
        };
        simulation.put::<Snapshots>(&testing::record(id.clone(), spec)).await;

        let epoch = before.spec.run_epoch;
        let seen = SeenGuest {
            root_disk: true,
            guest: GuestState::Running { epoch },
            ..SeenGuest::default()
        };
        for (record, is_another) in [(&before, true), (&after, false)] {
            let status = simulation.reconciler.status(&record.id);
            let pass = Pass::new(&simulation.reconciler, record, status);
            let wanted = Wanted::Run { epoch: record.spec.run_epoch };
            let sealed = pass.seal(wanted, &seen).await;
            assert!(matches!(sealed, Ok(it) if it == is_another), "{}", record.generation);
            let world = simulation.reconciler.cache.read();
            assert!(world.snapshots.get(&id).unwrap().spec.is_pending(), "{}", record.generation);
        }
    }
}
