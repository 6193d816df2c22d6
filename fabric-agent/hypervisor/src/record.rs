//! What the holder writes down for whoever comes later.

use serde::{Deserialize, Serialize};

use crate::process::ProcessIdentity;
use crate::qemu::{GuestUuid, QemuVersion};

/// What `spec.json` says in every version of the agent: enough to find and end what it started.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct SpecKey {
    pub(crate) epoch: u64,
    pub(crate) uuid: GuestUuid,
    pub(crate) uid: u32,
}

/// A running QEMU and its holder, as recorded in `guest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestIdentity {
    /// Which start of the instance this is.
    pub epoch: u64,
    /// The UUID on QEMU's command line.
    pub uuid: GuestUuid,
    /// The user that QEMU runs as.
    pub uid: u32,
    /// The QEMU process.
    pub qemu: ProcessIdentity,
    /// The process that holds its console and waits for it.
    pub holder: ProcessIdentity,
    /// Which QEMU it is.
    pub qemu_version: QemuVersion,
    /// The boot of the machine that the process ids belong to.
    pub boot_id: String,
    /// When QEMU was started, in milliseconds since the Unix epoch.
    pub started_at_unix_ms: u64,
    /// For each interface the holder's descriptor of its namespace, so that the namespace can be
    /// found as `/proc/HOLDER/fd/N` even when its maker is gone.
    pub netns_fds: Vec<Option<i32>>,
}

/// How a QEMU ended, as recorded in `exit.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestExit {
    /// Which start of the instance ended.
    pub epoch: u64,
    /// How.
    pub cause: ExitCause,
    /// The end of what QEMU wrote to its standard error, at most 8 KiB.
    pub stderr_tail: String,
    /// When it was seen, in milliseconds since the Unix epoch; 0 if nobody was there to see it.
    pub at_unix_ms: u64,
}

/// Why a QEMU is not running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// It ended by itself, or was told to.
    Code(i32),
    /// It was killed.
    Signal(i32),
    /// It never ran: what could not be done, with its causes.
    NotStarted(String),
    /// It is gone and nobody saw it go: the machine was restarted or the holder was killed.
    Unknown,
}

/// Moments of a guest's life that only the holder sees, as recorded in `events.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestEvents {
    /// When the guest first wrote to its console, in milliseconds since the Unix epoch.
    pub first_console_byte_at_unix_ms: Option<u64>,
}

impl std::fmt::Display for ExitCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::NotStarted(reason) => write!(f, "could not be started: {reason}"),
            Self::Unknown => f.write_str("is gone and nobody saw why"),
        }
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
