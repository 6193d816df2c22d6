//! The time, injected, so that tests can run a day in a second.

use std::time::Duration;

use async_trait::async_trait;
use weft_model::Timestamp;

/// Where the agent takes the time from.
#[async_trait]
pub(crate) trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
    /// Returns after `duration`.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock. Its sleep is tokio's, which tests can pause.
#[derive(Debug)]
pub(crate) struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
