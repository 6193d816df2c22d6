//! File systems of guests that are frozen for a moment.

use std::collections::BTreeSet;

use weft_hypervisor::{FreezeNote, GuestError, GuestObservation};
use weft_model::{InstanceId, LayerId, Reason};

use super::{LinuxGuests, failed};
use crate::error_chain::ErrorChain;
use crate::host::HostError;

impl LinuxGuests {
    /// Where it is written down that a guest may be frozen.
    pub(in crate::host::linux) fn freeze_note(&self, id: &InstanceId) -> FreezeNote {
        FreezeNote::in_dir(&self.dir(id))
    }

    /// Whether the guest may be frozen, and nobody is about to thaw it.
    pub(super) fn is_left_frozen(
        &self,
        id: &InstanceId,
        observed: &GuestObservation,
    ) -> Result<bool, HostError> {
        match observed {
            GuestObservation::Running { .. } | GuestObservation::Halted { .. } => {
                let left = self.guests.is_left_frozen(id, &self.freeze_note(id));
                left.map_err(failed(format!("look at the guest of {id}")))
            }
            _ => Ok(false),
        }
    }

    /// None where it cannot be read: they only wait to be forgotten.
    pub(super) fn layers_of_freezes(&self, id: &InstanceId) -> BTreeSet<LayerId> {
        let layers = self.guests.layers_of_freezes(id, &self.freeze_note(id));
        layers.unwrap_or_else(|error| {
            let error = ErrorChain(&error).to_string();
            tracing::warn!(instance.id = %id, error, "a note of freezes cannot be read");
            BTreeSet::new()
        })
    }

    pub(in crate::host::linux) fn forget_freezes(
        &self,
        id: &InstanceId,
        layers: &BTreeSet<LayerId>,
    ) -> Result<(), HostError> {
        let forgotten = self.guests.forget_freezes(id, &self.freeze_note(id), layers);
        forgotten.map_err(failed(format!("tidy up after freezes of the guest of {id}")))
    }

    pub(in crate::host::linux) async fn thaw(&self, id: &InstanceId) -> Result<(), HostError> {
        let thawed = self.guests.thaw(id, &self.freeze_note(id)).await;
        thawed.map_err(failed(format!("cannot thaw the guest of {id}")))
    }

    pub(in crate::host::linux) async fn can_freeze(
        &self,
        id: &InstanceId,
    ) -> Result<(), HostError> {
        self.guests.agent_answers(id).await.map_err(|error| {
            let what = format!("cannot freeze the file systems of {id}");
            let (retryable, refused) = (error.is_retryable(), error.refused());
            let told = HostError::new(what, retryable).caused_by(error);
            if refused { told.reason(Reason::FailedPrecondition) } else { told }
        })
    }

    pub(in crate::host::linux) fn freeze_no_more(&self) {
        self.guests.freeze_no_more();
    }

    /// Whether a disk that is to go over while the guest is frozen has to find it so: one that no guest
    /// has that runs is written by nobody.
    pub(in crate::host::linux) async fn has_to_be_frozen(
        &self,
        id: &InstanceId,
        has: bool,
    ) -> Result<bool, GuestError> {
        Ok(has || !self.guests.has_disks_open(id).await?)
    }
}
