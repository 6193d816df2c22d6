//! What people are told about an instance, derived from what was seen.

use weft_model::{
    HIBERNATED, InstanceId, InstanceSpec, InstanceState, InstanceStatus, Phase, PhaseRecord,
    PowerState, Record, Timestamp,
};

use crate::GuestState;
use crate::restart::{self, Ending};

/// What is said of a guest whose kernel panicked.
const PANICKED: &str = "the guest's kernel panicked";
/// What is said of a guest that ended in good order.
const POWERED_OFF: &str = "the guest powered off";

/// What a pass found, besides the guest itself.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// The guest as it is after the pass.
    pub guest: GuestState,
    /// Whether the pass started it.
    pub started: bool,
    /// Whether the guest's memory is kept.
    pub memory: bool,
    /// Whether the guest went on from where it was hibernated, instead of booting.
    pub resumed: bool,
    /// What ails a guest whose hypervisor runs: it was halted by an I/O error, say.
    pub trouble: Option<String>,
    /// Whether the pass asked the guest to shut down.
    pub shutting_down: bool,
    /// An error that another try may mend.
    pub retrying: Option<String>,
    /// An error that no other try mends; the launch has ended.
    pub failed: Option<String>,
}

/// The status after a pass. `now` is when it was made; nothing else is a matter of time.
pub fn derive_status(
    record: &Record<InstanceId, InstanceSpec>,
    before: &InstanceStatus,
    seen: &Observation,
    now: Timestamp,
) -> InstanceStatus {
    let mut status = before.clone();
    let epoch = record.spec.run_epoch;
    let may_run = record.spec.power == PowerState::Running && before.ended_epoch < epoch;
    if restart::pending(record, before).is_none() {
        status.restarts.due_at = None;
    }
    (status.state, status.reason) = if record.deleting_since.is_some() {
        (InstanceState::Terminating, seen.failed.clone().or_else(|| seen.retrying.clone()))
    } else {
        match &seen.guest {
            GuestState::Running { .. } if seen.shutting_down => (InstanceState::Stopping, None),
            GuestState::Running { epoch: have } => {
                if seen.started || *have != status.epoch || status.launched_at.is_none() {
                    begin(&mut status, *have, now, seen.resumed);
                }
                (InstanceState::Running, seen.trouble.clone().or_else(|| seen.retrying.clone()))
            }
            GuestState::PoweredOff { epoch: have } => {
                status.ended_epoch = status.ended_epoch.max(*have);
                match may_run && *have >= epoch {
                    true => (InstanceState::Stopping, Some(POWERED_OFF.to_owned())),
                    false => {
                        let said = before.state == InstanceState::Stopping;
                        (InstanceState::Stopping, before.reason.clone().filter(|_| said))
                    }
                }
            }
            GuestState::Saving { .. } => {
                (InstanceState::Stopping, Some("its memory is being saved".to_owned()))
            }
            GuestState::Loading { .. } => {
                (InstanceState::Starting, Some("its memory is being read back".to_owned()))
            }
            GuestState::Loaded { .. } => {
                (InstanceState::Starting, Some("its memory was read back".to_owned()))
            }
            GuestState::Panicked { epoch: have } if may_run && *have >= epoch => {
                status.ended_epoch = status.ended_epoch.max(*have);
                (InstanceState::Failed, Some(PANICKED.to_owned()))
            }
            GuestState::Exited { epoch: have, how } if may_run && *have >= epoch => {
                status.ended_epoch = status.ended_epoch.max(*have);
                (InstanceState::Failed, Some(how.clone()))
            }
            GuestState::Absent | GuestState::Exited { .. } | GuestState::Panicked { .. } => {
                resting(record, before, seen, may_run, &mut status.ended_epoch)
            }
        }
    };
    if may_run && status.ended_epoch >= epoch {
        plan_restart(record, before, &mut status, now);
    }
    status
}

/// The launch that is wanted has just ended by itself: it is repeated where its owner says so.
fn plan_restart(
    record: &Record<InstanceId, InstanceSpec>,
    before: &InstanceStatus,
    status: &mut InstanceStatus,
    now: Timestamp,
) {
    let ending = match status.state {
        InstanceState::Failed => Ending::Failed,
        _ => Ending::PoweredOff,
    };
    let Some(restarts) = restart::after(record, before, ending, now) else { return };
    let policy = record.spec.lifecycle.auto_restart;
    let how = status.reason.take().unwrap_or_default();
    status.reason = Some(restart::told(&how, &restarts, policy, now));
    status.restarts = restarts;
    // It is on its way: neither down nor failed.
    if status.state == InstanceState::Failed {
        status.state = InstanceState::Starting;
    }
}

/// No guest runs, and none has just died.
fn resting(
    record: &Record<InstanceId, InstanceSpec>,
    before: &InstanceStatus,
    seen: &Observation,
    may_run: bool,
    ended_epoch: &mut u64,
) -> (InstanceState, Option<String>) {
    if may_run {
        if let Some(why) = &seen.failed {
            *ended_epoch = record.spec.run_epoch;
            return (InstanceState::Failed, Some(why.clone()));
        }
        let fresh = before.launched_at.is_none() && seen.retrying.is_none();
        let state = match fresh && before.state == InstanceState::Pending {
            true => InstanceState::Pending,
            false => InstanceState::Starting,
        };
        return (state, seen.retrying.clone());
    }
    if restart::pending(record, before).is_some() {
        return (InstanceState::Starting, before.reason.clone());
    }
    if seen.memory && record.spec.power == PowerState::Stopped {
        return (InstanceState::Stopped, Some(HIBERNATED.to_owned()));
    }
    let was_up = matches!(before.state, InstanceState::Running | InstanceState::Stopping);
    if let (GuestState::Exited { how, .. }, true, true) =
        (&seen.guest, record.spec.hibernate, was_up)
    {
        return (InstanceState::Stopped, Some(format!("its memory was not saved: {how}")));
    }
    match before.state {
        InstanceState::Stopped if before.reason.as_deref() == Some(HIBERNATED) => {
            (InstanceState::Stopped, None)
        }
        InstanceState::Failed | InstanceState::Stopped | InstanceState::Stopping => {
            let failed = before.state == InstanceState::Failed;
            let state = if failed { InstanceState::Failed } else { InstanceState::Stopped };
            (state, before.reason.clone())
        }
        // It waited to be started again, and its owner does not want that any more.
        InstanceState::Starting
            if before.restarts.due_at.is_some() && record.spec.power == PowerState::Running =>
        {
            (InstanceState::Failed, before.reason.clone())
        }
        // Whatever was said of a launch that never came about says nothing of being off.
        _ => (InstanceState::Stopped, None),
    }
}

/// A new launch: its own phases, and the time it was started. Of an older launch only how the
/// instance came to be is kept.
fn begin(status: &mut InstanceStatus, epoch: u64, now: Timestamp, resumed: bool) {
    if status.launched_at.is_some() {
        status.phases.retain(|record| record.phase == Phase::Accepted);
    }
    status.epoch = epoch;
    status.launched_at = Some(now);
    // A guest that goes on says none of it again.
    if !resumed {
        status.cloud_init = None;
        status.live_keys = false;
        status.signal = None;
    }
}

/// Records that `phase` of the present launch was reached, once.
pub fn record_phase(status: &mut InstanceStatus, phase: Phase, at: Timestamp) {
    if status.reached(phase).is_none() {
        status.phases.push(PhaseRecord { phase, at });
    }
}
