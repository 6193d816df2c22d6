//! What happened on a host that nobody asked for, kept for people.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::image::words;

words! {
    /// What an event is.
    EventKind {
        /// The kernel was not as the agent had left it.
        Drift = "drift",
        /// A guest ended that nobody had stopped: its kernel panicked, or its hypervisor died.
        GuestFailure = "guest_failure",
        /// `auto_restart` has a guest started again.
        Restart = "restart",
        /// A guest could not be hibernated, and runs on.
        NotHibernated = "not_hibernated",
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the host's events, from 1.
    pub number: u64,
    /// When it was noticed.
    pub at: Timestamp,
    /// What it is.
    pub kind: EventKind,
    /// The id of the object that it is about.
    pub subject: String,
    /// For people: what was found, and what became of it.
    pub message: String,
}
