//! A root disk that is smaller than it should be: it grows, and never shrinks.

use weft_model::{InstanceId, InstanceSpec, Record};

use crate::{Action, GuestState, Wanted};

/// The step that makes the root disk as large as it should be; `root_bytes` is what it has, where there
/// is one. Pending snapshots come before it: what one has prepared has the size of the disk then.
pub fn plan_growth(
    record: &Record<InstanceId, InstanceSpec>,
    wanted: Wanted,
    guest: &GuestState,
    root_bytes: Option<u64>,
) -> Option<Action> {
    let size_bytes = record.spec.root_size_bytes();
    if wanted == Wanted::Gone || root_bytes? >= size_bytes {
        return None;
    }
    let running = match guest {
        GuestState::Running { .. } => true,
        GuestState::Absent | GuestState::Exited { .. } => false,
        // It is on its way out, or in: then.
        GuestState::PoweredOff { .. }
        | GuestState::Panicked { .. }
        | GuestState::Saving { .. }
        | GuestState::Loading { .. }
        | GuestState::Loaded { .. } => return None,
    };
    Some(Action::GrowRootDisk { instance_id: record.id.clone(), size_bytes, running })
}

#[cfg(test)]
mod tests {
    use weft_model::PowerState;

    use super::*;
    use crate::instance::tests::record;

    #[test]
    fn a_disk_grows_wherever_it_is_and_never_shrinks() {
        let mut record = record(PowerState::Running, 1);
        record.spec.root_size_gib = Some(2);
        let (run, running) = (Wanted::Run { epoch: 1 }, GuestState::Running { epoch: 1 });
        let off = GuestState::PoweredOff { epoch: 1 };
        let (gib, none) = (|gib: u64| Some(gib << 30), None);
        #[rustfmt::skip]
        let cases = [
            // wanted,      guest,               has,    grows in the guest
            (run,           running.clone(),     gib(1), Some(true)),
            (Wanted::Off,   running.clone(),     gib(1), Some(true)),
            (run,           GuestState::Absent,  gib(1), Some(false)),
            (Wanted::Off,   GuestState::Absent,  gib(1), Some(false)),
            (run,           off,                 gib(1), None),
            (Wanted::Gone,  running.clone(),     gib(1), None),
            (run,           running.clone(),     gib(2), None),
            (run,           running.clone(),     gib(3), None),
            (run,           GuestState::Absent,  none,   None),
        ];
        for (wanted, guest, has, want) in cases {
            let step = plan_growth(&record, wanted, &guest, has);
            let grows = step.map(|action| match action {
                Action::GrowRootDisk { size_bytes, running, .. } => (size_bytes, running),
                other => panic!("{other:?}"),
            });
            assert_eq!(
                grows,
                want.map(|running| (2 << 30, running)),
                "{wanted:?} {guest:?} {has:?}"
            );
        }
    }
}
