use weft_model::{PhaseRecord, PowerState, Timestamp};

use super::*;
use crate::testing::instance;

fn status(state: InstanceState, epoch: u64, ended_epoch: u64, ssh: bool) -> InstanceStatus {
    let at = Timestamp::UNIX_EPOCH;
    let phases = ssh.then_some(PhaseRecord { phase: Phase::SshBanner, at }).into_iter().collect();
    let accepted = InstanceStatus::accepted(at);
    InstanceStatus { state, epoch, ended_epoch, phases, launched_at: Some(at), ..accepted }
}

#[test]
fn a_wait_ends_when_its_condition_holds_for_the_launch_that_was_asked_for() {
    use InstanceState::{Failed, Pending, Running, Starting, Stopped, Stopping, Terminating};
    let (run, ssh) = (Until::Ready(WaitFor::Running), Until::Ready(WaitFor::Ssh));
    let none = Until::Ready(WaitFor::None);
    #[rustfmt::skip]
    let cases = [
        // the second launch was asked for
        // until,        state,       epoch, ended, ssh,   verdict
        (none,           Pending,     0,     0,     false, "done"),
        (run,            Pending,     0,     0,     false, "not yet"),
        (run,            Running,     2,     1,     false, "done"),
        (run,            Running,     1,     0,     true,  "not yet"),
        (ssh,            Running,     1,     0,     true,  "not yet"),
        (ssh,            Running,     2,     1,     false, "not yet"),
        (ssh,            Running,     2,     1,     true,  "done"),
        (ssh,            Stopping,    1,     1,     true,  "not yet"),
        (ssh,            Failed,      1,     1,     true,  "not yet"),
        (ssh,            Failed,      2,     2,     false, "in vain"),
        (run,            Stopped,     2,     2,     false, "in vain"),
        (run,            Terminating, 2,     1,     false, "in vain"),
        (run,            Starting,    1,     1,     false, "not yet"),
        (Until::Stopped, Stopping,    2,     1,     false, "not yet"),
        (Until::Stopped, Stopped,     2,     2,     false, "done"),
        (Until::Stopped, Failed,      2,     2,     false, "done"),
        (Until::Gone,    Terminating, 2,     1,     false, "not yet"),
    ];
    let mut record = instance(1, 0, None);
    record.spec.run_epoch = 2;
    record.spec.power = PowerState::Running;
    for (until, state, epoch, ended, ssh, want) in cases {
        let status = status(state, epoch, ended, ssh);
        let got = match judge(&record.id, until, Some(&record), Some(&status)) {
            Verdict::Done => "done",
            Verdict::NotYet => "not yet",
            Verdict::InVain(_) => "in vain",
        };
        assert_eq!(got, want, "{until:?} {state} of launch {epoch}, ended {ended}, ssh {ssh}");
    }
    assert!(matches!(judge(&record.id, Until::Gone, None, None), Verdict::Done));
    assert!(matches!(judge(&record.id, ssh, None, None), Verdict::InVain(_)));
}

#[test]
fn a_wait_for_the_guests_own_word_ends_with_it() {
    let mut record = instance(1, 0, None);
    record.spec.run_epoch = 1;
    record.spec.power = PowerState::Running;
    let at = Timestamp::UNIX_EPOCH;
    let running = |cloud_init, signal| InstanceStatus {
        cloud_init,
        signal,
        ..status(InstanceState::Running, 1, 0, true)
    };
    let report = |outcome, errors: &[&str], detail| {
        let errors = errors.iter().map(ToString::to_string);
        Some(CloudInitReport::new(outcome, errors, detail, at))
    };
    let signal = |outcome, reason| Some(Signal::new(outcome, reason, at));
    let (error, success) = (CloudInitOutcome::Error, SignalOutcome::Success);
    let (cloud_init, signalled) = (WaitFor::CloudInit, WaitFor::Signal);
    let failed = report(error, &["scripts_user: exit 3", "apt: no route"], "");
    let id = &record.id;
    let failed_with = |what: &str| format!("cloud-init failed in instance {id}: {what}");
    #[rustfmt::skip]
    let cases = [
        (cloud_init, running(None, signal(success, "")),                           "not yet".to_owned()),
        (cloud_init, running(report(CloudInitOutcome::Done, &[], ""), None),       "done".to_owned()),
        (cloud_init, running(report(CloudInitOutcome::Degraded, &["w"], ""), None),"done".to_owned()),
        (cloud_init, running(failed, None),           failed_with("scripts_user: exit 3; apt: no route")),
        (cloud_init, running(report(error, &[], "no data source"), None), failed_with("no data source")),
        (cloud_init, running(report(error, &[], ""), None), failed_with("the guest did not say what failed")),
        (signalled,  running(report(CloudInitOutcome::Done, &[], ""), None),       "not yet".to_owned()),
        (signalled,  running(None, signal(success, "up")),                         "done".to_owned()),
        (signalled,  running(None, signal(SignalOutcome::Failure, "no database")),
            format!("instance {id} signalled failure: no database")),
        (signalled,  InstanceStatus { epoch: 0, ..running(None, signal(success, "")) }, "not yet".to_owned()),
    ];
    for (word, status, want) in cases {
        let got = match judge(id, Until::Ready(word), Some(&record), Some(&status)) {
            Verdict::Done => "done".to_owned(),
            Verdict::NotYet => "not yet".to_owned(),
            Verdict::InVain(problem) => problem.message,
        };
        assert_eq!(got, want, "{word} with {status:?}");
    }
}
