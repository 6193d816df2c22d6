//! Forgetting attachments of things that no guest has any more.

use weft_model::Problem;
use weft_store::Txn;

use super::Pass;
use crate::repo::{Kind, RecordOf};

impl Pass<'_> {
    /// Removes `attachments`, with what `detach` adds to a transaction for each.
    pub(super) async fn forget_attachments<K: Kind>(
        &self,
        attachments: &[RecordOf<K>],
        detach: impl Fn(Txn, &RecordOf<K>) -> Txn,
    ) -> Result<(), Problem> {
        let txn = attachments.iter().fold(Txn::new(), detach);
        let revision = self.reconciler.repo.commit(txn).await?;
        self.reconciler.cache.reached(revision).await;
        for attachment in attachments {
            tracing::info!(attachment.id = %attachment.id, "detached");
        }
        Ok(())
    }
}
