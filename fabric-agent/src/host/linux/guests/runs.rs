//! From when to when a guest ran, in the words of metering.

use weft_hypervisor::{Clocks, GuestError, GuestObservation, GuestRun};
use weft_metering::{Moment, Run};
use weft_model::Timestamp;

/// What `observed` means together with what the guest's holder wrote down.
pub(super) fn run(
    observed: &GuestObservation,
    recorded: impl FnOnce() -> Result<Option<GuestRun>, GuestError>,
) -> Result<Run, GuestError> {
    match observed {
        GuestObservation::Absent => return Ok(Run::Nothing),
        GuestObservation::Starting { .. } => return Ok(Run::Unknown),
        _ => {}
    }
    let Some(recorded) = recorded()? else { return Ok(Run::Nothing) };
    let boot = &recorded.boot_id;
    let Some(started) = moment(boot, recorded.started) else { return Ok(Run::Unknown) };
    Ok(match observed {
        GuestObservation::Exited { .. } => {
            Run::Over { started, ended: recorded.ended.and_then(|ended| moment(boot, ended)) }
        }
        // When it switched itself off, or panicked, QEMU told nobody but an agent that listened.
        GuestObservation::PoweredOff { .. } | GuestObservation::Panicked { .. } => {
            Run::Over { started, ended: None }
        }
        _ => Run::Running { started },
    })
}

fn moment(boot: &str, clocks: Clocks) -> Option<Moment> {
    let at = Timestamp::from_millisecond(i64::try_from(clocks.unix_ms).ok()?).ok()?;
    Some(Moment { at, boot: boot.to_owned(), ticks_ms: clocks.monotonic_ms })
}
