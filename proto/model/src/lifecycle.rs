//! How an instance is kept alive, brought down, and protected.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::image::words;

/// Seconds that a guest may be given to shut down: none to an hour.
pub const SHUTDOWN_SECONDS: std::ops::RangeInclusive<u32> = 0..=3600;

words! {
    /// Whether a launch that has ended is repeated without anybody's asking.
    AutoRestart {
        /// It is not: the instance stays down.
        Never = "never",
        /// Where the hypervisor died, or the guest's kernel panicked.
        OnFailure = "on_failure",
        /// Also where the guest powered itself off. Never where it was stopped.
        Always = "always",
    }
}

/// What the owner of an instance says of its life. All of it changes live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    /// Whether Delete is refused.
    pub termination_protection: bool,
    /// Whether a launch that has ended is repeated.
    pub auto_restart: AutoRestart,
    /// Seconds that its guest may take to shut down before it is ended; `None` is what the agent
    /// gives to all.
    pub shutdown_timeout_seconds: Option<u32>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            termination_protection: false,
            auto_restart: AutoRestart::Never,
            shutdown_timeout_seconds: None,
        }
    }
}

/// Launches that `auto_restart` has asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// How many in a row, none of which ran for long.
    pub in_a_row: u32,
    /// The launch that the last of them made.
    pub epoch: u64,
    /// When the next one is due; `None` where none is.
    pub due_at: Option<Timestamp>,
}
