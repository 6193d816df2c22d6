//! The time, injected, so that tests can run a day in a second.

mod scripted;

use std::time::Duration;

use async_trait::async_trait;
use nix::time::{ClockId, clock_gettime};
use weft_metering::Moment;
use weft_model::Timestamp;

pub(crate) use scripted::ScriptedClock;

/// Where the agent takes the time from.
#[async_trait]
pub(crate) trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// The present moment, by the wall clock alone.
    fn now(&self) -> Timestamp {
        self.moment().at
    }
    /// The present moment, which lengths are measured from.
    fn moment(&self) -> Moment;
    /// Returns after `duration`.
    async fn sleep(&self, duration: Duration);
    /// Returns `duration` after `begun`.
    async fn sleep_from(&self, begun: &Moment, duration: Duration) {
        let spent = Duration::from_millis(self.moment().since_ms(begun));
        self.sleep(duration.saturating_sub(spent)).await;
    }
}

/// The machine's clocks. Its sleep is tokio's, which tests can pause.
#[derive(Debug)]
pub(crate) struct SystemClock {
    boot: String,
}

impl SystemClock {
    /// # Errors
    /// The kernel does not say which boot this is.
    pub(crate) fn of_this_boot() -> std::io::Result<Self> {
        Ok(Self { boot: weft_hypervisor::boot_id()? })
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn moment(&self) -> Moment {
        // Fails for clocks that the kernel does not have: this one it always has.
        let ticks = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        let ticks_ms = u64::try_from(ticks.as_millis()).unwrap_or(u64::MAX);
        Moment { at: self.now(), boot: self.boot.clone(), ticks_ms }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
