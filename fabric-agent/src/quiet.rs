//! What strangers can have said in the log as often as they like is said now and then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long the log is silent after something was said.
const QUIET: Duration = Duration::from_secs(10);

/// A stranger must not fill the log.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<Option<Instant>>);

impl Quiet {
    /// Says it, unless something was said just now.
    pub(crate) fn say(&self, say: impl FnOnce()) {
        let now = Instant::now();
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_none_or(|until| now >= until) {
            *until = Some(now + QUIET);
            say();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_a_line_now_and_then() {
        let (quiet, mut said) = (Quiet::default(), 0);
        for _ in 0..100 {
            quiet.say(|| said += 1);
            tokio::time::advance(QUIET / 20).await;
        }
        assert_eq!(said, 5);
    }
}
