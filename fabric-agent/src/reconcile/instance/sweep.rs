//! What the host has of instances that the store does not know.

use std::sync::Arc;

use weft_model::InstanceId;
use weft_planner::Action;

use crate::error_chain::ErrorChain;
use crate::host::SeenGuest;
use crate::reconcile::Reconciler;
use crate::reconcile::queue::Next;

/// Removes what the host has of an instance that the store does not know, once it has been seen for
/// as long as the sweep waits: its guest without asking, as nobody can ask for it any more.
pub(super) async fn sweep(reconciler: &Arc<Reconciler>, id: &InstanceId) -> Next {
    let seen = match reconciler.host.observe_guest(id).await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::warn!(instance.id = %id, error = %ErrorChain(&error), "cannot look at an unwanted guest");
            return Next::Retry;
        }
    };
    if seen == SeenGuest::default() {
        return Next::Done;
    }
    if !reconciler.grace_over_for(id) {
        return Next::After(reconciler.config.sweep_grace);
    }
    tracing::warn!(instance.id = %id, "removing an instance that the store does not know");
    let instance_id = || id.clone();
    let steps = [
        Action::EndGuest { instance_id: instance_id() },
        Action::ForgetGuest { instance_id: instance_id() },
        Action::RemoveDisks { instance_id: instance_id() },
    ];
    for action in steps {
        if let Err(error) = reconciler.host.apply(&action).await {
            tracing::warn!(instance.id = %id, error = %ErrorChain(&error), "removing it failed");
            return Next::Retry;
        }
    }
    reconciler.transients().remove(id);
    Next::Done
}

impl Reconciler {
    /// Whether something unwanted has been seen for as long as the sweep waits.
    fn grace_over_for(&self, id: &InstanceId) -> bool {
        let mut transients = self.transients();
        let transient = transients.entry(id.clone()).or_default();
        let since = *transient.unwanted_since.get_or_insert_with(tokio::time::Instant::now);
        since.elapsed() >= self.config.sweep_grace
    }
}
