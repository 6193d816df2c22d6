//! `auto_restart`: a launch that has ended is asked for again.

use std::time::Duration;

use weft_model::{EventKind, InstanceStatus, Problem};
use weft_planner::{Restart, restart};
use weft_store::Txn;

use super::InstanceRecord;
use crate::reconcile::Reconciler;
use crate::reconcile::queue::Next;
use crate::repo::{Instances, encode, object_key, status_key};

impl Reconciler {
    /// Repeats the launch of `record` if that is due. Otherwise says how long it has to wait, if it
    /// waits for that.
    ///
    /// # Errors
    /// What the pass ends with: it was repeated, or the store failed.
    pub(super) async fn restart(
        &self,
        record: &InstanceRecord,
        status: &InstanceStatus,
    ) -> Result<Option<Duration>, Next> {
        match restart(record, status, self.clock.now()) {
            Restart::No => Ok(None),
            Restart::After(wait) => Ok(Some(wait)),
            Restart::Now { epoch } => match self.relaunch(record, status, epoch).await {
                Ok(()) => Err(Next::After(Duration::ZERO)),
                Err(problem) => {
                    tracing::error!(instance.id = %record.id, error = %problem, "a restart could not be stored");
                    Err(Next::Retry)
                }
            },
        }
    }

    /// Stores the new launch and that it was made in one transaction: it is counted once, whenever
    /// the agent dies. The generation stays, as nobody has changed what is wanted.
    async fn relaunch(
        &self,
        record: &InstanceRecord,
        status: &InstanceStatus,
        epoch: u64,
    ) -> Result<(), Problem> {
        let id = &record.id;
        let _turn = self.turns.object(id.as_str()).await;
        let Some(stored) = self.repo.find::<Instances>(id).await? else { return Ok(()) };
        // Somebody may have asked for something else meanwhile.
        if restart(&stored.value, status, self.clock.now()) != (Restart::Now { epoch }) {
            self.cache.reached(stored.revision).await;
            return Ok(());
        }
        let (mut record, mut status) = (stored.value, status.clone());
        record.spec.run_epoch = epoch;
        status.restarts.epoch = epoch;
        status.restarts.due_at = None;
        let why = status.reason.clone().unwrap_or_default();
        let key = object_key::<Instances>(id);
        let txn = Txn::new()
            .when_at(&key, stored.revision)
            .put(key, encode(&record))
            .put(status_key(id), encode(&status));
        let revision = self.repo.commit(txn).await?;
        let in_a_row = status.restarts.in_a_row;
        self.statuses().insert(id.clone(), status);
        self.cache.reached(revision).await;
        let message =
            format!("started again as launch {epoch} (restart {in_a_row} in a row): {why}");
        self.events.record(EventKind::Restart, id.as_str(), message).await;
        Ok(())
    }
}
