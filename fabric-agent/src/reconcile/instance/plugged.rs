//! What guests that run have, for those who wait.

use std::collections::BTreeSet;

use weft_model::InstanceId;

use crate::reconcile::Reconciler;
use crate::reconcile::noted::Noted;

/// Which things of one sort each guest has, by their ids.
pub(crate) type Plugged<I> = Noted<InstanceId, BTreeSet<I>>;

impl Reconciler {
    /// An instance that is forgotten has no guest.
    pub(super) fn forget_plugged(&self, id: &InstanceId) {
        self.plugged.note(id, None);
        self.plugged_volumes.note(id, None);
    }
}
