//! What the holder writes down for whoever comes later.

use serde::{Deserialize, Serialize};

use crate::process::{MS_PER_TICK, ProcessIdentity};
use crate::qemu::{GuestUuid, QemuVersion};

/// What `spec.json` says in every version of the agent: enough to find and end what it started.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct SpecKey {
    /// Whether the guest's memory is read back.
    #[serde(default)]
    pub(crate) resume: Option<serde::de::IgnoredAny>,
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
    /// The same by `CLOCK_MONOTONIC`, in milliseconds; holders of older agents did not say it.
    #[serde(default)]
    pub started_monotonic_ms: Option<u64>,
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
    /// The same by `CLOCK_MONOTONIC` of the guest's boot, in milliseconds.
    #[serde(default)]
    pub at_monotonic_ms: Option<u64>,
}

/// From when to when a QEMU ran, by the machine's clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestRun {
    /// The boot of the machine that it ran in.
    pub boot_id: String,
    /// When it was started.
    pub started: Clocks,
    /// When its end was seen; `None` while it runs, and where nobody saw it.
    pub ended: Option<Clocks>,
}

/// A moment by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Milliseconds of `CLOCK_MONOTONIC`.
    pub monotonic_ms: u64,
}

impl GuestRun {
    /// From what the holder wrote down.
    pub(crate) fn of(guest: &GuestIdentity, exit: Option<&GuestExit>) -> Self {
        let of_this = exit.filter(|exit| exit.epoch == guest.epoch);
        Self {
            boot_id: guest.boot_id.clone(),
            started: Clocks {
                unix_ms: guest.started_at_unix_ms,
                // The start in `/proc` is of the clock that goes on while a machine is suspended;
                // for guests of older agents it is near enough, and always the same.
                monotonic_ms: guest
                    .started_monotonic_ms
                    .unwrap_or_else(|| guest.qemu.start_ticks.saturating_mul(MS_PER_TICK)),
            },
            ended: of_this.and_then(|exit| {
                let monotonic_ms = exit.at_monotonic_ms?;
                Some(Clocks { unix_ms: exit.at_unix_ms, monotonic_ms })
            }),
        }
    }
}

/// Milliseconds of `CLOCK_MONOTONIC`: the same for every process of this boot.
pub(crate) fn monotonic_ms() -> Option<u64> {
    let ticks = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).ok()?;
    u64::try_from(std::time::Duration::from(ticks).as_millis()).ok()
}

/// Why a QEMU is not running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// It ended by itself, or was told to.
    Code(i32),
    /// It was killed.
    Signal(i32),
    /// The kernel killed it because memory ran out: that of its control group, or the host's.
    OutOfMemory,
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
            Self::OutOfMemory => f.write_str(
                "was killed by the kernel because memory ran out: the host's, or what is allowed to this \
                 guest and its hypervisor (journalctl -k says which)",
            ),
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
