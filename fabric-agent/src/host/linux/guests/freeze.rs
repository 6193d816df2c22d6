//! File systems of guests that are frozen for a moment.

use std::collections::BTreeSet;

use weft_hypervisor::{FreezeNote, Freezes, GuestError, GuestObservation};
use weft_model::{InstanceId, LayerId, Reason};

use super::{LinuxGuests, failed};
use crate::error_chain::ErrorChain;
use crate::host::HostError;

impl LinuxGuests {
    /// Where it is written down that a guest may be frozen.
    pub(in crate::host::linux) fn freeze_note(&self, id: &InstanceId) -> FreezeNote {
        FreezeNote::in_dir(&self.dir(id))
    }

    /// What is written down of freezes. A note that cannot be read keeps no guest from being started.
    pub(super) fn freezes(
        &self,
        id: &InstanceId,
        observed: &GuestObservation,
    ) -> Result<Freezes, HostError> {
        let freezes = self.guests.freezes(id, &self.freeze_note(id));
        match (observed, freezes) {
            (GuestObservation::Running { .. } | GuestObservation::Halted { .. }, freezes) => {
                freezes.map_err(failed(format!("look at the guest of {id}")))
            }
            (_, Ok(freezes)) => Ok(Freezes { left_frozen: false, ..freezes }),
            (_, Err(error)) => {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(instance.id = %id, error, "a note of freezes cannot be read");
                Ok(Freezes::default())
            }
        }
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
