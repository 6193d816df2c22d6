//! Simulated guests whose file systems are frozen for a moment.

use weft_model::{InstanceId, Reason};

use super::SimHost;
use super::behaviour::Behaviour;
use crate::host::HostError;

/// What orders call a guest's own thawing, at the end of a seal too.
const THAW: &str = "thaw";

impl SimHost {
    /// Whether a guest runs that has an agent of its own.
    pub(super) fn can_be_frozen(&self, id: &InstanceId) -> Result<(), HostError> {
        let why = match self.running(id) {
            None => "no guest runs that could freeze its file systems",
            Some(guest) if guest.behaviour == Behaviour::NoGuestAgent => {
                "no guest agent answers: install the package qemu-guest-agent"
            }
            Some(_) => return Ok(()),
        };
        let what = format!("cannot freeze the file systems of {id}: {why}");
        Err(HostError::new(what, false).reason(Reason::FailedPrecondition))
    }

    pub(super) async fn freeze(&self, id: &InstanceId) -> Result<(), HostError> {
        self.can_be_frozen(id)?;
        self.reality.change_guest(id, |guest| guest.frozen = true).await?;
        weft_crash_points::point("sim.freeze.frozen");
        Ok(())
    }

    pub(super) async fn thaw(&self, id: &InstanceId) -> Result<(), HostError> {
        weft_crash_points::point("sim.freeze.went_over");
        let subjects: Vec<String> =
            std::iter::once(id.to_string()).chain(self.name_of(id)).collect();
        self.orders.obey(THAW, &subjects, &self.reality).await?;
        self.reality.change_guest(id, |guest| guest.frozen = false).await
    }
}
