//! Snapshots of an instance's root disk: carried out before anything else is done about it.

use weft_model::SnapshotSource;
use weft_planner::{SealStep, Wanted, plan_seal};

use super::{Failure, Pass};
use crate::host::SeenGuest;
use crate::reconcile::seals::{Outcome, carry_out, pending, write_down};
use crate::repo::Instances;

impl Pass<'_> {
    /// Takes one step about pending snapshots. True: the instance is another one now, and has to be
    /// looked at anew.
    pub(super) async fn seal(&self, wanted: Wanted, seen: &SeenGuest) -> Result<bool, Failure> {
        let source = SnapshotSource::RootDisk(self.record.id.clone());
        let pending = pending(&self.reconciler.cache.read(), &source);
        if pending.is_empty() {
            return Ok(false);
        }
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

    /// Has the root disk go over to what its layers were merged into. True: as above.
    pub(super) async fn merge(&self, seen: &SeenGuest) -> Result<bool, Failure> {
        if self.record.deleting_since.is_some() {
            return Ok(false);
        }
        self.reconciler.merge_root(self.record, &seen.guest).await.map_err(Failure::Store)
    }
}
