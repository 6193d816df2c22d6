//! What a simulated hypervisor tells of a guest.

use std::collections::BTreeSet;

use weft_planner::{GuestState, Saving, SeenNics, SeenVolumes};

use super::reality::{Guest, State};
use crate::host::{SeenGuest, Starved};

impl Guest {
    /// `saving` tells how far it is, asked where its memory is being written.
    pub(super) fn seen(self, saving: impl FnOnce() -> Saving) -> SeenGuest {
        let (run, folder, size) = (self.run(), self.has_folder(), self.seen_size());
        let throttles = self.throttles();
        let said = match self.state {
            State::Running { since, .. } => self.behaviour.says(since),
            _ => Vec::new(),
        };
        let (state, first_console_byte) = match self.state {
            State::Absent => (GuestState::Absent, None),
            State::Running { epoch, since } => (GuestState::Running { epoch }, Some(since)),
            State::PoweredOff { epoch } => (GuestState::PoweredOff { epoch }, None),
            State::Saving { epoch } => (GuestState::Saving { epoch, saving: saving() }, None),
            State::Loaded { epoch } => (GuestState::Loaded { epoch }, None),
            State::Panicked { epoch } => (GuestState::Panicked { epoch }, None),
            State::Exited { epoch, how } => (GuestState::Exited { epoch, how }, None),
        };
        let (nics, volumes, throttles) = match state {
            GuestState::Running { .. } => {
                (SeenNics::Has(self.nics), SeenVolumes::Has(self.volumes), throttles)
            }
            _ => (SeenNics::Unknown, SeenVolumes::Unknown, Default::default()),
        };
        SeenGuest {
            run,
            nics,
            volumes,
            throttles,
            size,
            memory: self.memory,
            layers_of_freezes: BTreeSet::new(),
            left_frozen: self.frozen && matches!(state, GuestState::Running { .. }),
            resumed: matches!(state, GuestState::Running { epoch } if epoch != self.booted_by),
            folder,
            root_disk: self.root_disk,
            seed: self.seed,
            guest: state,
            trouble: None,
            starved: Starved::No,
            first_console_byte,
            said,
        }
    }
}
