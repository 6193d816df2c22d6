use weft_model::InstanceState;

use super::*;
use crate::instance::tests::record;
use crate::{GuestState, Observation, Wanted, derive_status, wanted};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn asked(policy: AutoRestart, epoch: u64) -> Record<InstanceId, InstanceSpec> {
    let mut asked = record(PowerState::Running, epoch);
    asked.spec.lifecycle.auto_restart = policy;
    asked
}

fn running(epoch: u64) -> GuestState {
    GuestState::Running { epoch }
}

fn died(epoch: u64) -> GuestState {
    GuestState::Exited { epoch, how: "killed by signal 9".to_owned() }
}

/// The status of `asked` after its guest was seen running, then as `end`.
fn ended(asked: &Record<InstanceId, InstanceSpec>, end: GuestState) -> InstanceStatus {
    let epoch = asked.spec.run_epoch;
    let before = InstanceStatus::accepted(at(0));
    let up = look(asked, &before, running(epoch), at(0));
    look(asked, &up, end, at(1))
}

fn look(
    asked: &Record<InstanceId, InstanceSpec>,
    before: &InstanceStatus,
    guest: GuestState,
    now: Timestamp,
) -> InstanceStatus {
    derive_status(asked, before, &Observation { guest, ..Observation::default() }, now)
}

#[test]
fn each_policy_repeats_what_it_says_and_nothing_that_was_stopped() {
    use AutoRestart::{Always, Never, OnFailure};
    let off = || GuestState::PoweredOff { epoch: 1 };
    let panicked = || GuestState::Panicked { epoch: 1 };
    #[rustfmt::skip]
    let cases = [
        // policy,  end,        state,                   repeated
        (Never,     died(1),    InstanceState::Failed,   false),
        (Never,     panicked(), InstanceState::Failed,   false),
        (Never,     off(),      InstanceState::Stopping, false),
        (OnFailure, died(1),    InstanceState::Starting, true),
        (OnFailure, panicked(), InstanceState::Starting, true),
        (OnFailure, off(),      InstanceState::Stopping, false),
        (Always,    died(1),    InstanceState::Starting, true),
        (Always,    panicked(), InstanceState::Starting, true),
        (Always,    off(),      InstanceState::Stopping, true),
    ];
    for (policy, end, state, repeated) in cases {
        let name = format!("{policy} {end:?}");
        let mut asked = asked(policy, 1);
        let status = ended(&asked, end.clone());
        assert_eq!(status.state, state, "{name}");
        assert_eq!(wanted(&asked, &status), Wanted::Off, "{name}: not before its time");
        let second = Restart::After(Duration::from_secs(1));
        assert_eq!(restart(&asked, &status, at(1)), if repeated { second } else { Restart::No });
        let now = if repeated { Restart::Now { epoch: 2 } } else { Restart::No };
        assert_eq!(restart(&asked, &status, at(2)), now, "{name}");
        // What is told stays while it waits.
        let later = look(&asked, &status, died(1), at(2));
        assert_eq!(later.restarts, status.restarts, "{name}");
        assert_eq!(later.reason, status.reason, "{name}");
        let settled = matches!(later.state, InstanceState::Stopped | InstanceState::Failed);
        assert_eq!(settled, !repeated, "{name}: {}", later.state);
        // Whoever stops it, or removes it, has the last word.
        asked.spec.power = PowerState::Stopped;
        assert_eq!(restart(&asked, &status, at(2)), Restart::No, "{name}");
        assert_eq!(look(&asked, &later, died(1), at(2)).restarts.due_at, None, "{name}");
        asked.spec.power = PowerState::Running;
        asked.deleting_since = Some(at(2));
        assert_eq!(restart(&asked, &status, at(2)), Restart::No, "{name}");
    }
}

#[test]
fn a_guest_that_was_stopped_is_not_started_again_whatever_it_does_then() {
    let mut asked = asked(AutoRestart::Always, 1);
    let up = look(&asked, &InstanceStatus::accepted(at(0)), running(1), at(0));
    asked.spec.power = PowerState::Stopped;
    for end in [died(1), GuestState::PoweredOff { epoch: 1 }, GuestState::Panicked { epoch: 1 }] {
        let down = look(&asked, &up, end, at(1));
        assert_eq!(restart(&asked, &down, at(9)), Restart::No);
    }
}

#[test]
fn pauses_grow_to_five_minutes_and_begin_anew_after_a_good_launch() {
    let mut asked = asked(AutoRestart::OnFailure, 1);
    let mut status = InstanceStatus::accepted(at(0));
    let (mut now, mut pauses) = (0, Vec::new());
    let mut crash = |asked: &mut Record<InstanceId, InstanceSpec>, after: i64| {
        let epoch = asked.spec.run_epoch;
        status = look(asked, &status, running(epoch), at(now));
        now += after;
        status = look(asked, &status, died(epoch), at(now));
        let Restart::After(pause) = restart(asked, &status, at(now)) else { panic!("{status:?}") };
        now += i64::try_from(pause.as_secs()).unwrap();
        let Restart::Now { epoch } = restart(asked, &status, at(now)) else { panic!("{status:?}") };
        asked.spec.run_epoch = epoch;
        status.restarts.epoch = epoch;
        pauses.push(pause.as_secs());
        status.restarts.in_a_row
    };
    let in_a_row: Vec<u32> = (0..11).map(|_| crash(&mut asked, 2)).collect();
    assert_eq!(in_a_row, (1..12).collect::<Vec<_>>());
    assert_eq!(crash(&mut asked, 599), 12, "not long enough");
    assert_eq!(crash(&mut asked, 600), 1, "it ran for ten minutes");
    // Somebody asked for this launch.
    assert_eq!(crash(&mut asked, 2), 2);
    asked.spec.run_epoch += 1;
    assert_eq!(crash(&mut asked, 2), 1);
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 1, 2, 1]);
    assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
}

#[test]
fn a_clock_that_was_set_back_delays_no_restart() {
    let asked = asked(AutoRestart::OnFailure, 1);
    let status = ended(&asked, died(1));
    assert_eq!(restart(&asked, &status, at(-86_400)), Restart::Now { epoch: 2 });
    assert_eq!(restart(&asked, &status, at(86_400)), Restart::Now { epoch: 2 });
}

#[test]
fn a_policy_that_is_withdrawn_while_it_waits_leaves_a_failed_instance_with_its_reason() {
    let mut asked = asked(AutoRestart::OnFailure, 1);
    let waits = ended(&asked, died(1));
    assert!(waits.reason.as_deref().unwrap().starts_with("killed by signal 9; auto_restart"));
    asked.spec.lifecycle.auto_restart = AutoRestart::Never;
    let down = look(&asked, &waits, died(1), at(2));
    assert_eq!((down.state, down.restarts.due_at), (InstanceState::Failed, None));
    assert_eq!(down.reason, waits.reason);
    assert_eq!(look(&asked, &down, died(1), at(3)), down);
}

#[test]
fn a_launch_that_never_came_about_is_repeated_as_well() {
    let asked = asked(AutoRestart::OnFailure, 1);
    let failed = Observation { failed: Some("no such kernel".to_owned()), ..Default::default() };
    let status = derive_status(&asked, &InstanceStatus::accepted(at(0)), &failed, at(0));
    assert_eq!((status.state, status.ended_epoch), (InstanceState::Starting, 1));
    assert_eq!(restart(&asked, &status, at(1)), Restart::Now { epoch: 2 });
}

#[test]
fn a_panicked_guest_is_ended_before_the_next_launch() {
    let asked = asked(AutoRestart::OnFailure, 2);
    let seen = crate::SeenInstance {
        guest: GuestState::Panicked { epoch: 1 },
        ..crate::SeenInstance::default()
    };
    for wanted in [Wanted::Run { epoch: 2 }, Wanted::Off, Wanted::Gone] {
        let step =
            crate::plan_instance(&asked, None, &crate::Attached::default(), wanted, &seen, false);
        let end = crate::Action::EndGuest { instance_id: asked.id.clone() };
        assert_eq!(step, crate::InstanceStep::Do(vec![end]), "{wanted:?}");
    }
    // First it is reported.
    let step = crate::plan_instance(
        &asked,
        None,
        &crate::Attached::default(),
        Wanted::Run { epoch: 1 },
        &seen,
        false,
    );
    assert_eq!(step, crate::InstanceStep::Rest);
}
