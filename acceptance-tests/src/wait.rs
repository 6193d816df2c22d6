//! Waiting for facts: polls with a deadline, never a bare sleep.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(100);

/// How long anything may take on a loaded machine with two cores before it counts as never.
pub fn within() -> Duration {
    Duration::from_secs(120)
}

/// Probes until there is an answer; an error of the probe ends the wait at once.
///
/// # Errors
/// The probe failed, or gave no answer in time: the message names `what`.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            bail!("waited {} s in vain: {what}", limit.as_secs());
        }
        std::thread::sleep(POLL);
    }
}
