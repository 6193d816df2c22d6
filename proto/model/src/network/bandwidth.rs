//! How much of the network an interface may use, in each direction.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::Problem;

/// Mbit/s (10^6 bits per second) that an interface can be limited to.
pub const NETWORK_MBPS: RangeInclusive<u32> = 1..=100_000;

/// # Errors
/// A [`Problem`] at `network_mbps`.
pub fn check_network_mbps(network_mbps: Option<u32>) -> Result<(), Problem> {
    match network_mbps {
        Some(mbps) if !NETWORK_MBPS.contains(&mbps) => {
            let remedy = format!(
                "use {} to {}, or leave network_mbps out for no limit",
                NETWORK_MBPS.start(),
                NETWORK_MBPS.end()
            );
            Err(Problem::invalid("network_mbps", format!("{mbps} Mbit/s")).remedy(remedy))
        }
        _ => Ok(()),
    }
}

/// What slows down packets on their way to a guest, as the kernel has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservedShaper {
    /// Nothing.
    #[default]
    None,
    /// What we set for so many Mbit/s.
    Mbps(u32),
    /// Something that was not set by us, or was changed since.
    Foreign,
}

impl ObservedShaper {
    /// What an interface limited to `network_mbps` has.
    pub fn of(network_mbps: Option<u32>) -> Self {
        network_mbps.map_or(Self::None, Self::Mbps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_from_one_mbit_to_a_hundred_gbit() {
        let cases = [(None, true), (Some(0), false), (Some(1), true), (Some(100_000), true)];
        for (mbps, good) in cases.into_iter().chain([(Some(100_001), false)]) {
            let found = check_network_mbps(mbps);
            assert_eq!(found.is_ok(), good, "{mbps:?}");
            if let Err(problem) = found {
                assert_eq!(problem.field.as_deref(), Some("network_mbps"));
            }
        }
    }
}
