//! What guests asked the services of their network for, and what they reported: remembered until
//! the next pass over the instance puts it into its status.

use std::fmt;

use weft_model::{CloudInitReport, InstanceId, InstanceStatus, Phase, Signal, Timestamp};
use weft_planner::record_phase;
use weft_services::{Report, Seen};

use super::Reconciler;

/// Something that a guest did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Saying {
    /// It asked for something.
    Asked(Seen),
    /// It said something of itself.
    Reported(Report),
}

/// What the guest of one launch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    epoch: u64,
    /// The last time that it asked by DHCP and was given no address by that.
    dhcp_asked: Option<Timestamp>,
    /// The last time that it was given its address by DHCP.
    dhcp: Option<Timestamp>,
    /// The first time that it read metadata.
    imds: Option<Timestamp>,
    /// The last thing that it read, and when.
    last_read: Option<(String, Timestamp)>,
    /// It asked who may log in now.
    keys: bool,
    cloud_init: Option<CloudInitReport>,
    signal: Option<Signal>,
    /// Reports that were taken in.
    reports: u32,
}

/// Reports of one launch that are taken in: each one is written to the store, and guests are
/// hostile.
const MAX_REPORTS: u32 = 100;

impl Said {
    /// Takes in `saying` of the launch `epoch`; whether that changes a status, or `None` where it is
    /// one report too many.
    fn take(&mut self, epoch: u64, saying: Saying, now: Timestamp) -> Option<bool> {
        if self.epoch != epoch {
            *self = Self { epoch, ..Self::default() };
        }
        if matches!(saying, Saying::Reported(_)) {
            if self.reports == MAX_REPORTS {
                return None;
            }
            self.reports += 1;
        }
        Some(match saying {
            Saying::Asked(Seen::DhcpAsked) => {
                self.dhcp_asked = Some(now);
                false
            }
            Saying::Asked(Seen::Dhcp) => {
                let first = self.dhcp.is_none() && self.imds.is_none();
                self.dhcp = Some(now);
                first
            }
            Saying::Asked(Seen::Imds(path)) => {
                let first = self.dhcp.is_none() && self.imds.is_none();
                self.imds.get_or_insert(now);
                self.last_read = Some((path, now));
                first
            }
            Saying::Asked(Seen::Keys) => !std::mem::replace(&mut self.keys, true),
            Saying::Reported(Report::CloudInit(report)) => {
                self.cloud_init.replace(report.clone()) != Some(report)
            }
            Saying::Reported(Report::Signal(signal)) => {
                self.signal.replace(signal.clone()) != Some(signal)
            }
        })
    }

    /// Puts what was said in the status's launch into it.
    pub(super) fn put_into(&self, status: &mut InstanceStatus) {
        if self.epoch != status.epoch {
            return;
        }
        let asked = self.dhcp.into_iter().chain(self.imds).min();
        let reached = [
            (Phase::DhcpOrImds, asked),
            (Phase::CloudInit, self.cloud_init.as_ref().map(|report| report.at)),
            (Phase::Signalled, self.signal.as_ref().map(|signal| signal.at)),
        ];
        for (phase, at) in reached {
            if let Some(at) = at {
                // The timeline never goes backwards.
                let last = status.phases.last().map_or(at, |last| last.at);
                record_phase(status, phase, at.max(last));
            }
        }
        status.live_keys |= self.keys;
        if self.cloud_init.is_some() {
            status.cloud_init.clone_from(&self.cloud_init);
        }
        if self.signal.is_some() {
            status.signal.clone_from(&self.signal);
        }
    }

    /// What was seen on the wire in the launch `epoch`.
    fn asked(&self, epoch: u64) -> Asked {
        if self.epoch != epoch {
            return Asked::default();
        }
        let Self { dhcp_asked, dhcp, last_read, .. } = self.clone();
        Asked { dhcp_asked, dhcp, last_read }
    }
}

/// What a guest asked its network's services for; of what came before the agent was started nobody
/// knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// By DHCP, without being given an address.
    pub(crate) dhcp_asked: Option<Timestamp>,
    /// By DHCP, and was given its address.
    pub(crate) dhcp: Option<Timestamp>,
    /// The last path of its metadata.
    pub(crate) last_read: Option<(String, Timestamp)>,
}

impl Asked {
    /// Whether it was not heard of at all.
    pub(crate) fn nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nothing() {
            return f
                .write_str("the guest asked neither for an address by DHCP nor for its metadata");
        }
        match (self.dhcp, self.dhcp_asked) {
            (Some(at), _) => write!(f, "it was given its address by DHCP, last at {at}")?,
            (None, Some(at)) => write!(
                f,
                "it asked for an address by DHCP, last at {at}, was answered, and took none"
            )?,
            (None, None) => f.write_str("no request for an address by DHCP")?,
        }
        match &self.last_read {
            Some((path, at)) => write!(f, "; it last read metadata ({path}) at {at}"),
            None => f.write_str("; no request for metadata"),
        }
    }
}

impl Reconciler {
    /// Takes in what a guest did; false where it has reported too often in this launch.
    pub(crate) fn heard(&self, id: &InstanceId, saying: Saying) -> bool {
        let (epoch, now) = (self.status(id).epoch, self.clock.now());
        let changes = {
            let mut transients = self.transients();
            // Not one that is being forgotten.
            if !self.cache.read().instances.contains_key(id) {
                return true;
            }
            transients.entry(id.clone()).or_default().said.take(epoch, saying, now)
        };
        if changes == Some(true) {
            self.look_at(id);
        }
        changes.is_some()
    }

    /// What the guest of the launch `epoch` was seen asking for.
    pub(crate) fn seen_asking(&self, id: &InstanceId, epoch: u64) -> Asked {
        let transients = self.transients();
        transients.get(id).map(|transient| transient.said.asked(epoch)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use weft_model::{CloudInitOutcome, SignalOutcome};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_said_in_a_launch_is_of_its_status_alone() {
        let mut said = Said::default();
        assert_eq!(said.take(1, Saying::Asked(Seen::Dhcp), at(5)), Some(true));
        assert_eq!(
            said.take(1, Saying::Asked(Seen::Imds("/latest/user-data".to_owned())), at(6)),
            Some(false)
        );
        assert_eq!(said.take(1, Saying::Asked(Seen::Keys), at(6)), Some(true));
        assert_eq!(said.take(1, Saying::Asked(Seen::Keys), at(6)), Some(false));
        let report = CloudInitReport::new(CloudInitOutcome::Done, [], "", at(7));
        assert_eq!(
            said.take(1, Saying::Reported(Report::CloudInit(report.clone())), at(7)),
            Some(true)
        );
        assert_eq!(
            said.take(1, Saying::Reported(Report::CloudInit(report.clone())), at(8)),
            Some(false),
            "told twice"
        );
        let mut status = InstanceStatus::accepted(at(6));
        said.put_into(&mut status);
        assert_eq!(status.cloud_init, None, "the status is of no launch yet");
        status.epoch = 1;
        said.put_into(&mut status);
        assert_eq!(status.cloud_init, Some(report));
        assert!(status.live_keys);
        assert_eq!(status.reached(Phase::DhcpOrImds), Some(at(6)), "never before the last phase");
        assert_eq!(status.reached(Phase::CloudInit), Some(at(7)));
        let asked = said.asked(1).to_string();
        assert_eq!(
            asked,
            "it was given its address by DHCP, last at 1970-01-01T00:00:05Z; it last read metadata \
             (/latest/user-data) at 1970-01-01T00:00:06Z"
        );

        let signal = Signal::new(SignalOutcome::Failure, "no disk", at(9));
        assert_eq!(
            said.take(2, Saying::Reported(Report::Signal(signal.clone())), at(9)),
            Some(true)
        );
        let mut second = InstanceStatus { epoch: 2, ..InstanceStatus::accepted(at(8)) };
        said.put_into(&mut second);
        assert_eq!((second.cloud_init, second.signal), (None, Some(signal)));
        assert!(!second.live_keys, "another launch has not asked");
        assert!(said.asked(3).nothing());
        assert_eq!(said.take(2, Saying::Asked(Seen::DhcpAsked), at(9)), Some(false));
        assert_eq!(
            said.asked(2).to_string(),
            "it asked for an address by DHCP, last at 1970-01-01T00:00:09Z, was answered, and took \
             none; no request for metadata"
        );
        let taken = (0..200).filter(|n| {
            let signal = Signal::new(SignalOutcome::Success, "", at(10 + n));
            said.take(3, Saying::Reported(Report::Signal(signal)), at(10 + n)).is_some()
        });
        assert_eq!(taken.count(), 100, "a guest that reports for ever is told so");
    }
}
