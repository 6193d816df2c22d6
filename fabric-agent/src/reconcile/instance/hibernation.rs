//! Hibernation that was asked for and cannot be had: the guest runs on, and so does what is wanted.

use weft_model::{EventKind, InstanceId, PowerState, Problem};
use weft_store::Txn;

use super::InstanceRecord;
use crate::reconcile::Reconciler;
use crate::repo::{Instances, encode, object_key};

impl Reconciler {
    /// Nobody wants the instance hibernated any more; whoever waits for it is told `why`.
    pub(super) async fn withdraw_hibernation(
        &self,
        record: &InstanceRecord,
        why: &str,
    ) -> Result<(), Problem> {
        let id = &record.id;
        let _turn = self.turns.object(id.as_str()).await;
        let Some(stored) = self.repo.find::<Instances>(id).await? else { return Ok(()) };
        // Somebody may have asked for something else meanwhile.
        if !stored.value.spec.is_hibernated() {
            return Ok(());
        }
        self.transients().entry(id.clone()).or_default().not_hibernated = Some(why.to_owned());
        let mut record = stored.value;
        record.spec.hibernate = false;
        record.spec.power = PowerState::Running;
        let key = object_key::<Instances>(id);
        let txn = Txn::new().when_at(&key, stored.revision).put(key, encode(&record));
        let revision = self.repo.commit(txn).await?;
        self.cache.reached(revision).await;
        let message = format!("it was not hibernated and runs on: {why}");
        self.events.record(EventKind::NotHibernated, id.as_str(), message).await;
        Ok(())
    }

    /// Why the instance could not be hibernated; told once.
    pub(crate) fn take_not_hibernated(&self, id: &InstanceId) -> Option<String> {
        self.transients().get_mut(id).and_then(|transient| transient.not_hibernated.take())
    }
}
