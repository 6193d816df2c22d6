//! How fast something comes: over the last seconds, so that neither a burst nor a pause long ago counts.

use std::collections::VecDeque;

/// How long is looked back, in milliseconds.
const WINDOW_MS: u64 = 5000;
/// The shortest time that says anything, in milliseconds.
const SHORTEST_MS: u64 = 200;

/// When how much had come.
#[derive(Debug, Default)]
pub(super) struct Rate(VecDeque<(u64, u64)>);

impl Rate {
    /// So many bytes had come after so many milliseconds.
    pub(super) fn note(&mut self, ms: u64, bytes: u64) {
        // What comes again from its beginning is measured anew.
        if self.0.back().is_some_and(|(_, before)| bytes < *before) {
            self.0.clear();
        }
        self.0.push_back((ms, bytes));
        // The newest that is older than the window is kept: what came since is known from it.
        while self.0.get(1).is_some_and(|(at, _)| at + WINDOW_MS <= ms) {
            self.0.pop_front();
        }
    }

    /// Bytes a second, where that can be said.
    pub(super) fn per_second(&self) -> Option<u64> {
        let ((begun, from), (now, upto)) = (self.0.front()?, self.0.back()?);
        let ms = now.checked_sub(*begun).filter(|ms| *ms >= SHORTEST_MS)?;
        Some((upto - from).saturating_mul(1000) / ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        let mut after = |ms, bytes| {
            rate.note(ms, bytes);
            rate.per_second()
        };
        assert_eq!(after(0, 1000), None, "what was there before did not come now");
        assert_eq!(after(100, 2000), None, "too short to tell");
        assert_eq!(after(1000, 5000), Some(4000));
        assert_eq!(after(4000, 17_000), Some(4000));
        // A pause: the fast seconds leave the window.
        assert_eq!(after(6000, 17_000), Some(2400));
        assert_eq!(after(20_000, 17_000), Some(0));
        // From the beginning.
        assert_eq!(after(20_500, 0), None);
        assert_eq!(after(21_500, 700), Some(700));
    }
}
