//! What guests that run have, for those who wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use weft_model::InstanceId;

use crate::reconcile::Reconciler;

type Had<I> = Arc<BTreeMap<InstanceId, BTreeSet<I>>>;

/// Which things of one sort each guest has, by their ids.
#[derive(Debug)]
pub(crate) struct Plugged<I>(watch::Sender<Had<I>>);

impl<I> Default for Plugged<I> {
    fn default() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }
}

impl<I: Clone + Ord> Plugged<I> {
    pub(super) fn note(&self, id: &InstanceId, has: Option<BTreeSet<I>>) {
        self.0.send_if_modified(|all| {
            if all.get(id) == has.as_ref() {
                return false;
            }
            let all = Arc::make_mut(all);
            match has {
                Some(has) => all.insert(id.clone(), has),
                None => all.remove(id),
            };
            true
        });
    }

    /// Returns when the guest was seen to have it.
    pub(crate) async fn has(&self, id: &InstanceId, thing: &I) {
        let has = |all: &Had<I>| all.get(id).is_some_and(|has| has.contains(thing));
        // The sender lives as long as self: waiting cannot fail.
        let _ = self.0.subscribe().wait_for(has).await;
    }
}

impl Reconciler {
    /// An instance that is forgotten has no guest.
    pub(super) fn forget_plugged(&self, id: &InstanceId) {
        self.plugged.note(id, None);
        self.plugged_volumes.note(id, None);
    }
}
