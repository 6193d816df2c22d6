//! A point in time that stays comparable when the wall clock is set.

use serde::{Deserialize, Serialize};
use weft_model::Timestamp;

/// When something was, by the wall clock and by the machine's monotonic one.
///
/// `ticks_ms` is `CLOCK_MONOTONIC` (clock_gettime(2)): it is the same for all processes of one boot,
/// so the length between a moment that a guest's holder wrote down and one of an agent that was
/// started much later is right however often the wall clock was set. It stands still while the
/// machine is suspended, as its guests do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// By the wall clock.
    pub at: Timestamp,
    /// The boot of the machine that `ticks_ms` is of.
    pub boot: String,
    /// Milliseconds of the monotonic clock.
    pub ticks_ms: u64,
}

impl Moment {
    /// Milliseconds from `earlier` to here; never negative.
    ///
    /// Between two boots only the wall clock is left: if it went back meanwhile, that is nothing.
    pub fn since_ms(&self, earlier: &Self) -> u64 {
        if self.boot == earlier.boot {
            return self.ticks_ms.saturating_sub(earlier.ticks_ms);
        }
        let wall = self.at.as_millisecond().saturating_sub(earlier.at.as_millisecond());
        u64::try_from(wall).unwrap_or(0)
    }

    /// Whether this was before `other`, as far as it can be known.
    pub fn is_before(&self, other: &Self) -> bool {
        match self.boot == other.boot {
            true => self.ticks_ms < other.ticks_ms,
            false => self.at < other.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall_s: i64, boot: &str, ticks_ms: u64) -> Moment {
        Moment { at: Timestamp::from_second(wall_s).unwrap(), boot: boot.to_owned(), ticks_ms }
    }

    #[test]
    fn a_length_is_the_monotonic_clocks_and_never_negative() {
        let begin = moment(1_000_000, "a", 5_000);
        #[rustfmt::skip]
        let cases = [
            ("an hour",                 moment(1_003_600, "a", 3_605_000), 3_600_000),
            ("clock set forward",       moment(9_000_000, "a", 3_605_000), 3_600_000),
            ("clock set back",          moment(0,         "a", 3_605_000), 3_600_000),
            ("older by both",           moment(0,         "a", 1_000),     0),
            ("another boot",            moment(1_000_060, "b", 10),        60_000),
            ("another boot, set back",  moment(0,         "b", 10),        0),
        ];
        for (name, end, want) in cases {
            assert_eq!(end.since_ms(&begin), want, "{name}");
        }
    }
}
