//! What guests that run have, for those who wait.

use std::collections::BTreeSet;

use weft_model::InstanceId;
use weft_planner::{GuestState, SeenInstance, SeenSize};

use super::Pass;
use crate::reconcile::Reconciler;
use crate::reconcile::noted::Noted;

/// Which things of one sort each guest has, by their ids.
pub(crate) type Plugged<I> = Noted<InstanceId, BTreeSet<I>>;

impl Reconciler {
    /// An instance that is forgotten has no guest.
    pub(super) fn forget_plugged(&self, id: &InstanceId) {
        self.plugged.note(id, None);
        self.plugged_volumes.note(id, None);
        self.throttled.note(id, None);
        self.sized.note(id, None);
    }
}

impl Pass<'_> {
    /// What the disks of the guest are kept to, for who waits for it; a guest that does not run does
    /// nothing.
    pub(super) fn note_throttles(&self, seen: &SeenInstance) {
        let runs = matches!(seen.guest, GuestState::Running { .. });
        self.reconciler.throttled.note(&self.record.id, runs.then(|| seen.throttles.clone()));
    }

    /// How big the guest is, for who waits for it to grow.
    pub(super) fn note_size(&self, seen: &SeenInstance) {
        let is_known = seen.size != SeenSize::Unknown;
        self.reconciler.sized.note(&self.record.id, is_known.then(|| seen.size.clone()));
    }
}
