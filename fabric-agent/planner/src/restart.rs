//! Whether and when a launch that has ended is repeated: `auto_restart`.
//!
//! ```text
//! launch ends ──▶ due after a pause ──▶ a new launch ──▶ runs for long: the next end is a first one
//!     ▲                                      │
//!     └──────── ends soon: a longer pause ───┘
//! ```
//!
//! The record of it is a part of the status, so it outlives the agent. A launch that somebody asked
//! for begins anew.

use std::time::Duration;

use weft_model::{
    AutoRestart, InstanceId, InstanceSpec, InstanceStatus, PowerState, Record, Restarts, Timestamp,
};

/// Before the first restart. Each one that follows soon doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A launch that ran for so long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(600);

/// How a launch ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The guest powered itself off.
    PoweredOff,
    /// Anything else.
    Failed,
}

/// What is to be done about a launch that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Nothing.
    No,
    /// It is repeated after this time.
    After(Duration),
    /// It is repeated now, as launch `epoch`.
    Now {
        /// The new `run_epoch`.
        epoch: u64,
    },
}

/// Whether a launch that has ended is to be repeated, `now`.
///
/// Where the clock was set back by more than any pause, what is due is due at once.
pub fn restart(
    record: &Record<InstanceId, InstanceSpec>,
    status: &InstanceStatus,
    now: Timestamp,
) -> Restart {
    let Some(due_at) = pending(record, status) else { return Restart::No };
    match Duration::try_from(due_at.duration_since(now)) {
        Ok(left) if !left.is_zero() && left <= LONGEST_PAUSE => Restart::After(left),
        _ => Restart::Now { epoch: record.spec.run_epoch + 1 },
    }
}

/// When the launch that has ended is repeated, if it is.
pub(crate) fn pending(
    record: &Record<InstanceId, InstanceSpec>,
    status: &InstanceStatus,
) -> Option<Timestamp> {
    let spec = &record.spec;
    let asked = record.deleting_since.is_none()
        && spec.power == PowerState::Running
        && spec.lifecycle.auto_restart != AutoRestart::Never
        && status.ended_epoch >= spec.run_epoch;
    status.restarts.due_at.filter(|_| asked)
}

/// What becomes of [`Restarts`] where the launch that is wanted has ended `now`; `None` where it is
/// not repeated.
pub(crate) fn after(
    record: &Record<InstanceId, InstanceSpec>,
    before: &InstanceStatus,
    ending: Ending,
    now: Timestamp,
) -> Option<Restarts> {
    let wanted = match record.spec.lifecycle.auto_restart {
        AutoRestart::Never => false,
        AutoRestart::OnFailure => ending == Ending::Failed,
        AutoRestart::Always => true,
    };
    if !wanted || record.deleting_since.is_some() {
        return None;
    }
    let epoch = record.spec.run_epoch;
    let launched = before.launched_at.filter(|_| before.epoch == epoch);
    let ran = launched.and_then(|at| Duration::try_from(now.duration_since(at)).ok());
    let was_good = ran.is_some_and(|ran| ran >= GOOD_AFTER);
    let in_a_row = match before.restarts.epoch == epoch && !was_good {
        true => before.restarts.in_a_row.saturating_add(1),
        false => 1,
    };
    let due_at = now.checked_add(pause(in_a_row)).unwrap_or(now);
    Some(Restarts { in_a_row, epoch: before.restarts.epoch, due_at: Some(due_at) })
}

/// The pause before the `nth` restart in a row, counted from 1.
fn pause(nth: u32) -> Duration {
    let doubled = 1_u32.checked_shl(nth.saturating_sub(1));
    doubled.map_or(LONGEST_PAUSE, |times| FIRST_PAUSE.saturating_mul(times).min(LONGEST_PAUSE))
}

/// What people are told of a launch that ended as `how` says.
pub(crate) fn told(how: &str, restarts: &Restarts, policy: AutoRestart, now: Timestamp) -> String {
    let left = restarts.due_at.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    let seconds = left.unwrap_or_default().as_secs();
    let row = match restarts.in_a_row {
        0 | 1 => String::new(),
        n => format!(", restart {n} in a row"),
    };
    format!("{how}; auto_restart = \"{policy}\" starts it again after {seconds} s{row}")
}

#[cfg(test)]
mod tests;
