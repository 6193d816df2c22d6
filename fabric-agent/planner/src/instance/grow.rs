//! How a guest that runs becomes bigger: what it is given, and in which order.
//!
//! A guest starts as big as it is to be then; whatever comes later is added to it, in parts that are
//! called after their places. So what it has says how far an interrupted attempt came.

use std::collections::BTreeSet;

use weft_model::{GuestSize, InstanceId, InstanceSpec, MEMORY_SLOTS, Record};

use super::InstanceStep;
use crate::Action;

/// How big a guest that runs is, as its hypervisor tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeenSize {
    /// Nobody runs, or it is not known.
    #[default]
    Unknown,
    /// As big as it was started: it has no room to grow.
    Fixed,
    /// It has grown, or has room to.
    Has {
        /// How big.
        size: GuestSize,
        /// The slots that memory was put into.
        slots: BTreeSet<u8>,
    },
}

impl SeenSize {
    /// Whether the guest is at least as big as it should be, as far as anything can be done about it.
    pub fn covers(&self, wanted: GuestSize) -> bool {
        match self {
            Self::Unknown => false,
            Self::Fixed => true,
            Self::Has { size, .. } => size.covers(wanted),
        }
    }

    /// Whether the guest may be given memory once more, as far as it is known.
    pub fn has_free_slot(&self) -> bool {
        match self {
            Self::Unknown | Self::Fixed => true,
            Self::Has { slots, .. } => slots.len() < usize::from(MEMORY_SLOTS),
        }
    }
}

/// Gives the guest what it lacks. Its host lets it take that first: a guest that was given more than
/// it may take would be killed for using it.
pub(super) fn grow(
    record: &Record<InstanceId, InstanceSpec>,
    seen: &SeenSize,
) -> Option<InstanceStep> {
    let SeenSize::Has { size, slots } = seen else { return None };
    let (id, spec) = (&record.id, &record.spec);
    let wanted = spec.size();
    if size.covers(wanted) {
        return None;
    }
    let raise =
        Action::RaiseLimits { instance_id: id.clone(), size: wanted, display: spec.display };
    let vcpus = (wanted.vcpus > size.vcpus)
        .then(|| Action::AddVcpus { instance_id: id.clone(), vcpus: wanted.vcpus });
    let memory = wanted.memory_mib.checked_sub(size.memory_mib).filter(|mib| *mib > 0);
    let slot = (0..=u8::MAX).find(|slot| !slots.contains(slot)).unwrap_or(u8::MAX);
    let memory = memory.map(|mib| Action::AddMemory { instance_id: id.clone(), slot, mib });
    Some(InstanceStep::Do([Some(raise), memory, vcpus].into_iter().flatten().collect()))
}

#[cfg(test)]
mod tests {
    use weft_model::PowerState;

    use super::*;
    use crate::instance::tests::{guest_network, record};
    use crate::{Attached, GuestState, SeenInstance, Wanted, plan_instance};

    #[test]
    fn a_guest_is_given_what_it_lacks_and_never_less() {
        let has = |vcpus, memory_mib, slots: &[u8]| SeenSize::Has {
            size: GuestSize { vcpus, memory_mib },
            slots: slots.iter().copied().collect(),
        };
        #[rustfmt::skip]
        let cases = [
            // seen,                  steps towards 4 vCPUs and 512 MiB
            (SeenSize::Unknown,       vec![]),
            (SeenSize::Fixed,         vec![]),
            (has(4, 512, &[]),        vec![]),
            (has(4, 512, &[0, 1]),    vec![]),
            (has(1, 128, &[]),        vec!["limits 4 512", "384 MiB at 0", "4 vCPUs"]),
            // Killed in between: it goes on from there.
            (has(1, 512, &[0]),       vec!["limits 4 512", "4 vCPUs"]),
            (has(3, 512, &[0]),       vec!["limits 4 512", "4 vCPUs"]),
            (has(4, 256, &[0]),       vec!["limits 4 512", "256 MiB at 1"]),
            (has(4, 256, &[1]),       vec!["limits 4 512", "256 MiB at 0"]),
            // Smaller, it is at its next start.
            (has(8, 1024, &[0]),      vec![]),
            (has(8, 256, &[]),        vec!["limits 4 512", "256 MiB at 0"]),
        ];
        let mut record = record(PowerState::Running, 1);
        (record.spec.vcpus, record.spec.memory_mib) = (4, 512);
        for (seen, want) in cases {
            let steps = match grow(&record, &seen) {
                None => Vec::new(),
                Some(InstanceStep::Do(actions)) => actions,
                Some(other) => panic!("{other:?}"),
            };
            let show = |action: &Action| match action {
                Action::RaiseLimits { size, .. } => {
                    format!("limits {} {}", size.vcpus, size.memory_mib)
                }
                Action::AddVcpus { vcpus, .. } => format!("{vcpus} vCPUs"),
                Action::AddMemory { slot, mib, .. } => format!("{mib} MiB at {slot}"),
                other => panic!("{other:?}"),
            };
            assert_eq!(steps.iter().map(show).collect::<Vec<_>>(), want, "{seen:?}");
        }
    }

    #[test]
    fn what_was_refused_is_not_asked_for_again_in_the_same_pass() {
        let mut record = record(PowerState::Running, 1);
        (record.spec.vcpus, record.spec.memory_mib) = (2, 512);
        let size = GuestSize { vcpus: 2, memory_mib: 256 };
        for (not_grown, grows) in [(false, true), (true, false)] {
            let seen = SeenInstance {
                guest: GuestState::Running { epoch: 1 },
                network_ready: true,
                size: SeenSize::Has { size, slots: BTreeSet::new() },
                not_grown,
                ..SeenInstance::default()
            };
            let (network, attached) = (guest_network(), Attached::default());
            let wanted = Wanted::Run { epoch: 1 };
            let step = plan_instance(&record, Some(&network), &attached, wanted, &seen, false);
            assert_eq!(matches!(step, InstanceStep::Do(_)), grows, "{step:?}");
            assert_eq!(step == InstanceStep::Rest, !grows, "{step:?}");
        }
    }
}
