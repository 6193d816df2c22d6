//! How simulated guests behave, by words in their instances' names.

use weft_model::{CloudInitOutcome, CloudInitReport, Signal, SignalOutcome, Timestamp};
use weft_services::{Report, Seen};

use crate::reconcile::Saying;

/// How a simulated guest behaves. Chosen by its instance's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Behaviour {
    /// Boots at once, answers SSH, obeys the power button.
    #[default]
    Good,
    /// Boots and never answers SSH: the name contains `sim-no-ssh`.
    NoSsh,
    /// Ignores the power button: the name contains `sim-no-acpi`.
    NoAcpi,
    /// Lets go of no network interface while it runs: the name contains `sim-keeps-nics`.
    KeepsNics,
    /// Lets go of no volume while it runs: the name contains `sim-keeps-volumes`.
    KeepsVolumes,
    /// Has no agent of its own that could freeze it: the name contains `sim-no-guest-agent`.
    NoGuestAgent,
    /// The hypervisor dies at once: the name contains `sim-crash`.
    Crash,
    /// The guest's kernel panics at once: the name contains `sim-panic`.
    Panic,
    /// Cannot be hibernated: the name contains `sim-no-hibernate`.
    NoHibernate,
    /// The guest powers itself off at once: the name contains `sim-powers-off`.
    PowersOff,
    /// cloud-init ends with an error: the name contains `sim-cloud-init-fails`.
    CloudInitFails,
    /// cloud-init never ends: the name contains `sim-no-cloud-init`.
    NoCloudInit,
    /// Signals failure: the name contains `sim-signal-fails`.
    SignalFails,
    /// Never signals: the name contains `sim-no-signal`.
    NoSignal,
    /// Uses all of its processors and sends without pause: the name contains `sim-busy`.
    Busy,
}

impl Behaviour {
    /// With `-once` after the word, only the instance's first launch behaves so.
    pub(super) fn of(name: &str, epoch: u64) -> Self {
        let known = [
            ("sim-no-ssh", Self::NoSsh),
            ("sim-no-acpi", Self::NoAcpi),
            ("sim-keeps-nics", Self::KeepsNics),
            ("sim-keeps-volumes", Self::KeepsVolumes),
            ("sim-no-hibernate", Self::NoHibernate),
            ("sim-no-guest-agent", Self::NoGuestAgent),
            ("sim-crash", Self::Crash),
            ("sim-panic", Self::Panic),
            ("sim-powers-off", Self::PowersOff),
            ("sim-cloud-init-fails", Self::CloudInitFails),
            ("sim-no-cloud-init", Self::NoCloudInit),
            ("sim-signal-fails", Self::SignalFails),
            ("sim-no-signal", Self::NoSignal),
            ("sim-busy", Self::Busy),
        ];
        let applies = |word: &str| match name.split_once(word) {
            Some((_, rest)) => epoch == 1 || !rest.starts_with("-once"),
            None => false,
        };
        known.iter().find(|(word, _)| applies(word)).map_or(Self::Good, |(_, it)| *it)
    }

    /// What a guest that was started at `at` says of itself.
    pub(super) fn says(self, at: Timestamp) -> Vec<Saying> {
        if matches!(self, Self::Crash | Self::Panic | Self::PowersOff) {
            return Vec::new();
        }
        let mut said = vec![Saying::Asked(Seen::Dhcp)];
        if self != Self::NoCloudInit {
            let (outcome, errors) = match self {
                Self::CloudInitFails => (
                    CloudInitOutcome::Error,
                    vec!["scripts_user: the simulated user data failed".to_owned()],
                ),
                _ => (CloudInitOutcome::Done, Vec::new()),
            };
            let report = CloudInitReport::new(outcome, errors, "DataSourceSimulated", at);
            said.push(Saying::Reported(Report::CloudInit(report)));
        }
        let signalled =
            |outcome, why| Saying::Reported(Report::Signal(Signal::new(outcome, why, at)));
        match self {
            Self::NoSignal => {}
            Self::SignalFails => {
                let why = "the simulated service did not start";
                said.push(signalled(SignalOutcome::Failure, why));
            }
            _ => said.push(signalled(SignalOutcome::Success, "")),
        }
        said
    }
}
