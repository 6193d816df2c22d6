//! Guests as the agent sees them: launch, find again, command, remove.
//!
//! [`Guests`] owns one directory below which every guest has its own, and the one connection that
//! each QEMU serves. It keeps nothing that it could not find again: a new `Guests` over the same
//! directory, in another process, sees the same guests.

mod connection;
mod devices;
mod display;
mod error;
mod figures;
mod freeze;
mod graph;
mod grow;
mod launch;
mod memory;
mod merge;
mod namespaces;
mod nics;
mod observe;
mod remove;
mod seal;
mod starved;
mod throttle;
mod volumes;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::broadcast;
use weft_model::InstanceId;

use crate::cgroup::Cgroups;
use crate::layout::{self, GuestDir};
use crate::record::{GuestEvents, GuestExit, GuestIdentity};
use connection::Slot;
pub use error::GuestError;
pub use freeze::{FREEZE_ENDS_WITHIN, FreezeNote, Freezes, WentOver};
pub use grow::GrownSize;
pub use memory::{Booted, MemoryFiles, SavedMachine, Saving};
pub(crate) use memory::{MEMORY, incoming_uri};
pub use merge::MergedLayers;
pub use nics::GuestNics;
pub use volumes::GuestVolumes;

/// How long QEMU may take for one answer before it counts as unresponsive.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// Hints that may wait for a slow reader; a reader that lags must look at everything.
const HINT_BACKLOG: usize = 1024;

/// The program that becomes a guest's holder by calling [`crate::holder::run`] with the path that
/// is appended to its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderCommand {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments before the path of the specification, such as `hold-guest --spec`.
    pub args: Vec<String>,
}

impl HolderCommand {
    /// The argument that follows it where the guest has encrypted volumes; the next one is the number of
    /// the descriptor that [`crate::holder::run`] takes.
    pub const SECRETS: &str = "--secrets";
}

/// What is known about a guest now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestObservation {
    /// Nothing was ever started here, or it was purged.
    Absent,
    /// A holder lives and has not started QEMU yet.
    Starting {
        /// Which start this is.
        epoch: u64,
    },
    /// QEMU runs and executes the guest.
    Running {
        /// The processes.
        guest: GuestIdentity,
    },
    /// The guest switched itself off; QEMU waits to be told to quit.
    PoweredOff {
        /// The processes.
        guest: GuestIdentity,
    },
    /// The guest's kernel said by pvpanic that it panicked; QEMU has halted it.
    Panicked {
        /// The processes.
        guest: GuestIdentity,
    },
    /// QEMU reads the guest's memory back.
    Loading {
        /// The processes.
        guest: GuestIdentity,
    },
    /// QEMU has read the guest's memory back; the guest waits to go on.
    Loaded {
        /// The processes.
        guest: GuestIdentity,
    },
    /// QEMU runs and does not execute the guest.
    Halted {
        /// The processes.
        guest: GuestIdentity,
        /// QEMU's word for it, such as `io-error`, `internal-error` or `paused`.
        status: String,
    },
    /// QEMU's process lives and does not answer.
    Unresponsive {
        /// The processes.
        guest: GuestIdentity,
        /// Why that is believed.
        reason: String,
    },
    /// No QEMU runs; one did, or was asked for.
    Exited {
        /// How the last one ended.
        exit: GuestExit,
    },
}

/// Every guest below one directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guests {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    cgroups: Cgroups,
    slots: Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<Slot>>>>,
    hints: broadcast::Sender<InstanceId>,
    /// Whose turn it is to freeze a guest.
    freezing: Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>,
    /// Whether who could thaw one is about to end.
    freezes_no_more: AtomicBool,
}

impl Guests {
    /// Guests below `root`, which is made when the first one is launched. It belongs in a
    /// directory that does not survive a restart of the machine, such as `/run/weft/guests`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::in_cgroups(root, Cgroups::none("nobody asked for limits"))
    }

    /// The same, each in a control group of its own.
    pub fn in_cgroups(root: impl Into<PathBuf>, cgroups: Cgroups) -> Self {
        let (hints, _) = broadcast::channel(HINT_BACKLOG);
        let inner = Inner {
            root: root.into(),
            cgroups,
            slots: Mutex::default(),
            hints,
            freezing: Mutex::default(),
            freezes_no_more: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// How guests are limited.
    pub fn cgroups(&self) -> &Cgroups {
        &self.inner.cgroups
    }

    /// The directory of one guest.
    pub fn dir(&self, id: &InstanceId) -> PathBuf {
        self.inner.root.join(id.as_str())
    }

    /// Every instance that has a directory here, in order.
    pub fn list(&self) -> Result<Vec<InstanceId>, GuestError> {
        let root: &Path = &self.inner.root;
        let failed = |source| GuestError::List { root: root.to_owned(), source };
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            ids.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        ids.sort();
        Ok(ids)
    }

    /// Instances that may have changed: a QEMU ended, stopped, resumed or was shut down. A hint
    /// says "look", never what happened. Only guests that were launched or observed by this
    /// `Guests` give hints.
    pub fn hints(&self) -> broadcast::Receiver<InstanceId> {
        self.inner.hints.subscribe()
    }

    /// Presses the power button; the guest decides what it does.
    pub async fn power_button(&self, id: &InstanceId) -> Result<(), GuestError> {
        let Some(guest) = self.live_guest(id)? else {
            return Err(GuestError::NotRunning { id: id.clone() });
        };
        self.execute(id, &guest, "system_powerdown").await.map(|_| ())
    }

    /// Resets the machine, as its button does; the guest is not asked.
    pub async fn reset(&self, id: &InstanceId) -> Result<(), GuestError> {
        let Some(guest) = self.live_guest(id)? else {
            return Err(GuestError::NotRunning { id: id.clone() });
        };
        self.execute(id, &guest, "system_reset").await.map(|_| ())
    }

    /// Has a guest go on that its hypervisor has halted; requests that failed are tried again.
    pub async fn go_on(&self, id: &InstanceId) -> Result<(), GuestError> {
        let Some(guest) = self.live_guest(id)? else {
            return Err(GuestError::NotRunning { id: id.clone() });
        };
        self.execute(id, &guest, "cont").await.map(|_| ())
    }

    async fn execute(
        &self,
        id: &InstanceId,
        guest: &GuestIdentity,
        command: &'static str,
    ) -> Result<Value, GuestError> {
        let failed = |source| GuestError::Qmp { id: id.clone(), command, source };
        let client = self.client(id, guest).await.map_err(failed)?;
        client.execute(command, None, ANSWER_DEADLINE).await.map_err(failed)
    }

    /// The last `max_bytes` of what the guest wrote to its console, over all of its starts.
    pub fn console_tail(&self, id: &InstanceId, max_bytes: usize) -> Result<Vec<u8>, GuestError> {
        let dir = self.guest_dir(id);
        let wanted = u64::try_from(max_bytes).unwrap_or(u64::MAX);
        let failed = |source| GuestError::Console { id: id.clone(), source };
        let new = dir.tail(layout::CONSOLE_LOG, wanted).map_err(failed)?;
        let missing = wanted.saturating_sub(u64::try_from(new.len()).unwrap_or(u64::MAX));
        let mut bytes = dir.tail(layout::OLD_CONSOLE_LOG, missing).map_err(failed)?;
        bytes.extend(new);
        Ok(bytes)
    }

    /// An interactive console: what was written last, then everything as it comes; what is
    /// written into it is typed. Several may be attached.
    pub async fn console_attach(&self, id: &InstanceId) -> Result<UnixStream, GuestError> {
        let failed = |source| GuestError::Console { id: id.clone(), source };
        let stream = self.guest_dir(id).connect(layout::CONSOLE_SOCKET).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        UnixStream::from_std(stream).map_err(failed)
    }

    /// Moments of the current start that the holder saw.
    pub fn events(&self, id: &InstanceId) -> Result<GuestEvents, GuestError> {
        Ok(self.read(id, layout::EVENTS)?.unwrap_or_default())
    }

    fn guest_dir(&self, id: &InstanceId) -> GuestDir {
        GuestDir::new(self.dir(id))
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        id: &InstanceId,
        file: &'static str,
    ) -> Result<Option<T>, GuestError> {
        self.guest_dir(id).read(file).map_err(|source| GuestError::Record {
            id: id.clone(),
            file,
            source,
        })
    }

    fn slot(&self, id: &InstanceId) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(id.clone()).or_default().clone()
    }

    fn forget(&self, id: &InstanceId) {
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.inner.freezing.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
