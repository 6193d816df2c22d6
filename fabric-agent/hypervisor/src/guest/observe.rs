//! What a guest is doing now, from its records, its processes and QEMU's own word.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use weft_model::InstanceId;

use super::{GuestError, GuestObservation, Guests};
use crate::error_text::with_causes;
use crate::layout;
use crate::process::boot_id;
use crate::record::{ExitCause, GuestExit, GuestIdentity, GuestRun, SpecKey};

/// How long a holder may take to write down how its QEMU ended.
const EXIT_RECORD_DEADLINE: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl Guests {
    /// Looks at one guest. Never trusts a process id alone.
    pub async fn observe(&self, id: &InstanceId) -> Result<GuestObservation, GuestError> {
        if let Some(guest) = self.live_guest(id)? {
            let answer = self.execute(id, &guest, "query-status").await;
            if guest.qemu.is_alive() {
                return Ok(match answer {
                    Ok(answer) => judge(guest, &answer, self.is_resumed(id)?),
                    Err(error) => {
                        GuestObservation::Unresponsive { guest, reason: with_causes(&error) }
                    }
                });
            }
        }
        let Some(spec) = self.read::<SpecKey>(id, layout::SPEC)? else {
            return Ok(GuestObservation::Absent);
        };
        self.observe_dead(id, spec.epoch).await
    }

    /// The recorded QEMU, if that very process still runs.
    pub(super) fn live_guest(&self, id: &InstanceId) -> Result<Option<GuestIdentity>, GuestError> {
        let Some(guest) = self.read::<GuestIdentity>(id, layout::GUEST)? else { return Ok(None) };
        Ok(is_alive(id, &guest)?.then_some(guest))
    }

    async fn observe_dead(
        &self,
        id: &InstanceId,
        epoch: u64,
    ) -> Result<GuestObservation, GuestError> {
        let started = Instant::now();
        loop {
            // Read before the record: a holder lets go of its lock after writing it.
            let locked = self.is_locked(id)?;
            if let Some(exit) = self.read::<GuestExit>(id, layout::EXIT)? {
                return Ok(GuestObservation::Exited { exit });
            }
            match self.read::<GuestIdentity>(id, layout::GUEST)? {
                // QEMU was started between the first look and now; the next look will see it.
                Some(guest) if is_alive(id, &guest)? => {
                    return Ok(GuestObservation::Starting { epoch });
                }
                Some(_) if locked && started.elapsed() < EXIT_RECORD_DEADLINE => {
                    sleep(POLL_INTERVAL).await;
                }
                None if locked => return Ok(GuestObservation::Starting { epoch }),
                ran => {
                    let cause = ExitCause::Unknown;
                    // A launch that never came to a QEMU has not been: it does not count, and is
                    // made again.
                    let epoch = if ran.is_some() { epoch } else { epoch.saturating_sub(1) };
                    let exit = GuestExit {
                        epoch,
                        cause,
                        stderr_tail: String::new(),
                        at_unix_ms: 0,
                        at_monotonic_ms: None,
                    };
                    return Ok(GuestObservation::Exited { exit });
                }
            }
        }
    }

    /// From when to when the last QEMU ran; none where none was started, or all of it was purged.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn run(&self, id: &InstanceId) -> Result<Option<GuestRun>, GuestError> {
        let Some(guest) = self.read::<GuestIdentity>(id, layout::GUEST)? else { return Ok(None) };
        let exit = self.read::<GuestExit>(id, layout::EXIT)?;
        Ok(Some(GuestRun::of(&guest, exit.as_ref())))
    }

    pub(super) fn is_locked(&self, id: &InstanceId) -> Result<bool, GuestError> {
        self.guest_dir(id).is_locked().map_err(|source| GuestError::Record {
            id: id.clone(),
            file: layout::LOCK,
            source,
        })
    }
}

fn is_alive(id: &InstanceId, guest: &GuestIdentity) -> Result<bool, GuestError> {
    let boot = boot_id().map_err(|source| GuestError::Record {
        id: id.clone(),
        file: "/proc/sys/kernel/random/boot_id",
        source,
    })?;
    Ok(guest.boot_id == boot && guest.qemu.is_alive() && guest.qemu.has_uuid(guest.uuid))
}

/// QEMU's run states: `RunState` in its `qapi/run-state.json`.
fn judge(guest: GuestIdentity, answer: &Value, resumed: bool) -> GuestObservation {
    match answer.get("status").and_then(Value::as_str) {
        Some("running") => GuestObservation::Running { guest },
        Some("inmigrate") if resumed => GuestObservation::Loading { guest },
        Some("paused") if resumed => GuestObservation::Loaded { guest },
        Some("guest-panicked") => GuestObservation::Panicked { guest },
        Some("shutdown") => GuestObservation::PoweredOff { guest },
        Some(status) => GuestObservation::Halted { guest, status: status.to_owned() },
        None => {
            let reason = "qemu answered query-status without a status".to_owned();
            GuestObservation::Unresponsive { guest, reason }
        }
    }
}
