//! How long an instance is away that a plan restarts or replaces: as long as its last start took, where
//! the agent has seen that, else what it depends on.

use std::sync::Arc;

use tfplugin::{Diagnostic, PlanContext};
use weft_model::{InstanceState, InstanceStatus, Phase, WaitFor};

use super::order;
use crate::agent::Connection;

/// Why an instance is away for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Away {
    Restarted,
    Replaced,
}

/// What a plan warns of, without how long it takes.
#[derive(Debug)]
pub(super) struct Interruption {
    pub(super) away: Away,
    pub(super) warning: Diagnostic,
    pub(super) remedy: Option<&'static str>,
}

/// Warns of `interruption`, with how long it takes. The agent is asked where there is one.
pub(super) async fn warn(
    connection: Option<&Arc<Connection>>,
    interruption: Option<Interruption>,
    ctx: &mut PlanContext,
) {
    let Some(Interruption { away, mut warning, remedy }) = interruption else { return };
    let status = super::now(connection, &ctx.prior).await.map(|view| view.status);
    if status.as_ref().is_none_or(|status| status.state == InstanceState::Running) {
        let wait_for = order::wait_for(&ctx.prior);
        warning = warning.cause(told(away, status.as_ref(), wait_for));
    }
    ctx.warn(match remedy {
        Some(remedy) => warning.remedy(remedy),
        None => warning,
    });
}

fn told(away: Away, status: Option<&InstanceStatus>, wait_for: WaitFor) -> String {
    let took = status.and_then(|status| last_start(status, wait_for));
    match (away, took) {
        (Away::Restarted, Some((seconds, until))) => format!(
            "it is away while its guest shuts down, and then for about {seconds} s, as its last start \
             took {until}"
        ),
        (Away::Restarted, None) => {
            "how long it is away depends on how fast its guest shuts down and boots".to_owned()
        }
        (Away::Replaced, Some((seconds, until))) => format!(
            "without create_before_destroy it is away while its guest shuts down, a disk is made and the \
             new guest boots for the first time; the last start of this one took about {seconds} s \
             {until}"
        ),
        (Away::Replaced, None) => {
            "without create_before_destroy it is away while its guest shuts down, a disk is made and the \
             new guest boots for the first time"
                .to_owned()
        }
    }
}

/// Seconds, rounded up, that the guest which runs now took from its start until what `wait_for` waits
/// for, or until SSH answered. `None`: that was not seen, or it did not boot but went on from where it
/// was hibernated.
fn last_start(status: &InstanceStatus, wait_for: WaitFor) -> Option<(i64, &'static str)> {
    let (phase, until) = match wait_for {
        WaitFor::CloudInit => (Phase::CloudInit, "until cloud-init ended"),
        WaitFor::Signal => (Phase::Signalled, "until it signalled"),
        WaitFor::None | WaitFor::Running | WaitFor::Ssh => (Phase::SshBanner, "until SSH answered"),
    };
    // A kernel that boots speaks on the console before anything else.
    let (kernel, ready) = (status.reached(Phase::Kernel)?, status.reached(phase)?);
    let began = status.launched_at.filter(|_| kernel <= ready)?;
    let took = ready.as_millisecond().saturating_sub(began.as_millisecond());
    Some((took.div_euclid(1000) + i64::from(took.rem_euclid(1000) > 0), until)).filter(|_| took > 0)
}

#[cfg(test)]
mod tests {
    use weft_model::{PhaseRecord, Timestamp};

    use super::*;

    fn running(phases: &[(Phase, i64)]) -> InstanceStatus {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        InstanceStatus {
            state: InstanceState::Running,
            launched_at: Some(at(1000)),
            phases: phases
                .iter()
                .map(|(phase, ms)| PhaseRecord { phase: *phase, at: at(*ms) })
                .collect(),
            ..InstanceStatus::accepted(at(0))
        }
    }

    #[test]
    fn only_a_start_that_was_seen_to_its_end_says_how_long_one_takes() {
        use Phase::{CloudInit, Kernel, SshBanner};
        let booted = running(&[(Kernel, 2000), (SshBanner, 12_500), (CloudInit, 31_000)]);
        #[rustfmt::skip]
        let cases = [
            (WaitFor::Ssh,       &booted,                                        Some((12, "until SSH answered"))),
            (WaitFor::Running,   &booted,                                        Some((12, "until SSH answered"))),
            (WaitFor::CloudInit, &booted,                                        Some((30, "until cloud-init ended"))),
            (WaitFor::Signal,    &booted,                                        None),
            // went on from where it was hibernated
            (WaitFor::Ssh,       &running(&[(SshBanner, 1800)]),                 None),
            (WaitFor::Ssh,       &running(&[(SshBanner, 1800), (Kernel, 9000)]), None),
            (WaitFor::Ssh,       &running(&[(Kernel, 2000)]),                    None),
        ];
        for (wait_for, status, want) in cases {
            assert_eq!(last_start(status, wait_for), want, "{wait_for} {:?}", status.phases);
        }
    }

    #[test]
    fn users_read_how_long_it_takes_or_what_that_depends_on() {
        let booted = running(&[(Phase::Kernel, 2000), (Phase::SshBanner, 12_500)]);
        let told = |away, status| told(away, status, WaitFor::Ssh);
        assert_eq!(
            told(Away::Restarted, Some(&booted)),
            "it is away while its guest shuts down, and then for about 12 s, as its last start took \
             until SSH answered"
        );
        assert_eq!(
            told(Away::Replaced, Some(&booted)),
            "without create_before_destroy it is away while its guest shuts down, a disk is made and \
             the new guest boots for the first time; the last start of this one took about 12 s until \
             SSH answered"
        );
        assert_eq!(
            told(Away::Restarted, None),
            "how long it is away depends on how fast its guest shuts down and boots"
        );
        assert!(told(Away::Replaced, None).ends_with("boots for the first time"));
    }
}
