//! How big a simulated guest is, and what makes it bigger.

use weft_model::{GuestSize, InstanceId, MEMORY_SLOTS, Reason};
use weft_planner::{GuestLaunch, SeenSize};

use super::SimHost;
use super::reality::{Guest, State};
use crate::host::HostError;

impl Guest {
    fn size(&self) -> GuestSize {
        GuestSize { vcpus: self.vcpus, memory_mib: self.memory_mib }
    }

    /// A guest that goes on is as big as it was; any other as big as it is asked to be.
    pub(super) fn size_at_start(&mut self, launch: &GuestLaunch) {
        if !launch.resume {
            (self.vcpus, self.memory_mib) = (launch.vcpus, launch.memory_mib);
            self.maxima = launch.maxima;
            self.slots.clear();
        }
        self.may_take = None;
    }

    /// What a hypervisor tells of it.
    pub(super) fn seen_size(&self) -> SeenSize {
        match self.state {
            State::Running { .. } if self.maxima.is_set() => {
                let slots = self.slots.keys().copied().collect();
                SeenSize::Has { size: self.size(), slots }
            }
            State::Running { .. } => SeenSize::Fixed,
            _ => SeenSize::Unknown,
        }
    }
}

impl SimHost {
    pub(super) async fn add_vcpus(&self, id: &InstanceId, vcpus: u32) -> Result<(), HostError> {
        self.grow(id, |guest| guest.vcpus = guest.vcpus.max(vcpus)).await
    }

    pub(super) async fn add_memory(
        &self,
        id: &InstanceId,
        slot: u8,
        mib: u32,
    ) -> Result<(), HostError> {
        if slot >= MEMORY_SLOTS {
            let what = format!("add memory to the guest of {id}: it has no slot {slot}");
            return Err(HostError::new(what, true));
        }
        let add = |guest: &mut Guest| {
            if guest.slots.insert(slot, mib).is_none() {
                guest.memory_mib += mib;
            }
        };
        self.grow(id, add).await
    }

    /// Refuses what a real host would: what the guest has no room for, and what it would be killed for
    /// using.
    async fn grow(&self, id: &InstanceId, how: impl FnOnce(&mut Guest)) -> Result<(), HostError> {
        let refused = |why: &str| HostError::new(format!("grow the guest of {id}: {why}"), true);
        let Some(before) = self.running(id) else { return Err(refused("it does not run")) };
        let mut after = before.clone();
        how(&mut after);
        if !before.maxima.lets_grow(before.size(), after.size()) {
            return Err(refused("it has no room for that"));
        }
        if !after.may_take.is_some_and(|limit| limit.covers(after.size())) {
            return Err(refused("its limits were not raised").reason(Reason::Internal));
        }
        self.reality.change_guest(id, |guest| *guest = after).await
    }
}
