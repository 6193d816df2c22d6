//! Snapshots of disks that are asked for and not made yet; here, of an instance's root disk.
//!
//! They come before everything else that is to be done about the instance: while one is pending no
//! guest is started, for what an interrupted attempt left behind has to be carried to its end first.

use weft_model::{InstanceId, InstanceSpec, LayerId, Record, SnapshotId, Taking};

use crate::{Action, GuestState, Wanted};

/// A snapshot that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSeal {
    /// Which.
    pub snapshot_id: SnapshotId,
    /// What the disk's file becomes.
    pub layer: LayerId,
    /// How the disk is taken.
    pub taking: Taking,
}

impl PendingSeal {
    /// Whether the guest that has the disk is frozen for it. One that has shut down has left its file
    /// systems clean; where one ended otherwise since it was asked for, the host finds nobody to freeze.
    pub(crate) fn freezes(&self, guest: &GuestState) -> bool {
        let Taking::Frozen { had_guest } = self.taking else { return false };
        match guest {
            GuestState::PoweredOff { .. } => false,
            GuestState::Absent | GuestState::Exited { .. } => had_guest,
            GuestState::Running { .. }
            | GuestState::Panicked { .. }
            | GuestState::Saving { .. }
            | GuestState::Loading { .. }
            | GuestState::Loaded { .. } => true,
        }
    }
}

/// What to do next about an instance's pending snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealStep {
    /// Carry this out; the snapshot is made then.
    Seal(SnapshotId, Box<Action>),
    /// It cannot be made.
    Refuse(SnapshotId, &'static str),
    /// Nothing, now: go on with the instance.
    Rest,
}

/// The next step about `pending`, the oldest first. `root_bytes` is what there is of a disk, if there
/// is one, `has_run` whether there ever was one.
pub fn plan_seal(
    record: &Record<InstanceId, InstanceSpec>,
    wanted: Wanted,
    pending: &[PendingSeal],
    root_bytes: Option<u64>,
    has_run: bool,
    guest: &GuestState,
) -> SealStep {
    let Some(seal) = pending.first() else { return SealStep::Rest };
    let PendingSeal { snapshot_id, layer, taking } = seal;
    let Some(size_bytes) = root_bytes else {
        let refuse = |why| SealStep::Refuse(snapshot_id.clone(), why);
        return match wanted {
            Wanted::Gone => refuse("the instance was terminated before the snapshot was made"),
            _ if has_run => refuse("the instance's root disk is missing"),
            Wanted::Off | Wanted::Hibernated => {
                refuse("the instance has no root disk yet: it has never been started")
            }
            // It is made now, and sealed before a guest has it.
            Wanted::Run { .. } => SealStep::Rest,
        };
    };
    // A guest whose memory is being written or read has let go of its disk, or not taken it yet.
    if guest.is_away() {
        return SealStep::Rest;
    }
    let is_on_its_way_out = match (guest, wanted) {
        (GuestState::Running { epoch: have }, Wanted::Run { epoch }) => *have < epoch,
        (
            GuestState::Running { .. }
            | GuestState::PoweredOff { .. }
            | GuestState::Panicked { .. },
            _,
        ) => true,
        // Of the last three: decided above.
        (
            GuestState::Absent
            | GuestState::Exited { .. }
            | GuestState::Saving { .. }
            | GuestState::Loading { .. }
            | GuestState::Loaded { .. },
            _,
        ) => false,
    };
    if *taking == Taking::BetweenGuests && is_on_its_way_out {
        return SealStep::Rest;
    }
    SealStep::Seal(
        snapshot_id.clone(),
        Box::new(Action::SealRootDisk {
            instance_id: record.id.clone(),
            layer: layer.clone(),
            // Not what it should have: a guest would not see that it has grown.
            size_bytes,
            uid: record.spec.uid,
            freeze: seal.freezes(guest),
        }),
    )
}

#[cfg(test)]
mod tests {
    use weft_model::PowerState;

    use super::*;
    use crate::instance::tests::record;

    #[test]
    fn a_pending_snapshot_comes_before_everything_that_would_start_a_guest() {
        let running = |epoch| GuestState::Running { epoch };
        let exited = || GuestState::Exited { epoch: 1, how: "it ended".to_owned() };
        let run = Wanted::Run { epoch: 2 };
        let (as_it_is, between) = (Taking::AsItIs, Taking::BetweenGuests);
        #[rustfmt::skip]
        let cases = [
            // taken    wanted,       disk,  has run, guest,                               step
            (as_it_is, run,          true,  true,    running(2),                          "seal"),
            (as_it_is, run,          true,  true,    running(1),                          "seal"),
            (as_it_is, run,          true,  true,    GuestState::Absent,                  "seal"),
            (as_it_is, run,          true,  true,    exited(),                            "seal"),
            (as_it_is, Wanted::Off,  true,  true,    GuestState::PoweredOff { epoch: 2 }, "seal"),
            (as_it_is, Wanted::Gone, true,  true,    running(2),                          "seal"),
            // Taken between the guest that goes and the one that comes.
            (between,  run,          true,  true,    running(1),                          "rest"),
            (between,  run,          true,  true,    GuestState::PoweredOff { epoch: 1 }, "rest"),
            (between,  run,          true,  true,    exited(),                            "seal"),
            (between,  Wanted::Off,  true,  true,    running(1),                          "rest"),
            (between,  Wanted::Off,  true,  true,    GuestState::Absent,                  "seal"),
            // The next one runs already: waiting any longer would be for ever.
            (between,  run,          true,  true,    running(2),                          "seal"),
            // The disk comes first.
            (as_it_is, run,          false, false,   GuestState::Absent,                  "rest"),
            (as_it_is, run,          false, true,    GuestState::Absent,                  "missing"),
            (as_it_is, Wanted::Off,  false, false,   GuestState::Absent,                  "never been started"),
            (as_it_is, Wanted::Gone, false, true,    GuestState::Absent,                  "terminated"),
        ];
        let record = record(PowerState::Running, 2);
        for (taking, wanted, root_disk, has_run, guest, want) in cases {
            let pending = [PendingSeal {
                snapshot_id: SnapshotId::from_random([1; 9]),
                layer: LayerId::from_random([1; 9]),
                taking,
            }];
            let root_bytes = root_disk.then_some(3 << 30);
            let step = plan_seal(&record, wanted, &pending, root_bytes, has_run, &guest);
            let seen = match &step {
                SealStep::Seal(..) => "seal",
                SealStep::Refuse(_, why) => why,
                SealStep::Rest => "rest",
            };
            assert!(seen.contains(want), "{taking:?} {wanted:?} {guest:?}: {step:?}");
            let none = plan_seal(&record, wanted, &[], root_bytes, has_run, &guest);
            assert_eq!(none, SealStep::Rest);
        }
    }

    #[test]
    fn a_guest_is_frozen_unless_it_has_shut_down_or_never_ran() {
        let as_it_is = Taking::AsItIs;
        let [frozen, idle] = [true, false].map(|had_guest| Taking::Frozen { had_guest });
        let running = || GuestState::Running { epoch: 2 };
        let exited = || GuestState::Exited { epoch: 2, how: "killed".to_owned() };
        #[rustfmt::skip]
        let cases = [
            (as_it_is, running(),                            false),
            (frozen,   running(),                            true),
            // It was to be off, and has not got there yet.
            (idle,     running(),                            true),
            // The host refuses it: what a guest left that died is not what was asked for.
            (frozen,   GuestState::Absent,                   true),
            (frozen,   exited(),                             true),
            (idle,     GuestState::Absent,                   false),
            (idle,     exited(),                             false),
            (frozen,   GuestState::Panicked { epoch: 2 },    true),
            (frozen,   GuestState::PoweredOff { epoch: 2 },  false),
        ];
        let record = record(PowerState::Running, 2);
        for (taking, guest, want) in cases {
            let pending = [PendingSeal {
                snapshot_id: SnapshotId::from_random([1; 9]),
                layer: LayerId::from_random([1; 9]),
                taking,
            }];
            let run = Wanted::Run { epoch: 2 };
            let step = plan_seal(&record, run, &pending, Some(1 << 30), true, &guest);
            let SealStep::Seal(_, action) = step else { panic!("{step:?}") };
            let freezes = matches!(*action, Action::SealRootDisk { freeze: true, .. });
            assert_eq!(freezes, want, "{taking:?} {guest:?}");
        }
    }
}
