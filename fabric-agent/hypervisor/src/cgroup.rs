//! Control groups: a guest gets its memory, its processes and its share of the processors, and
//! takes nothing from others.
//!
//! Holder and QEMU are in a group of their own below `weft.slice`, so they also outlive a service
//! manager that ends everything in the agent's group. Who makes the group depends on the host:
//!
//! ```text
//! systemd is process 1     a transient scope, made by systemd-run: systemd alone writes its tree
//! otherwise                directories that we make, cgroup v2 or v1, whatever a controller is in
//! neither works            guests run without limits; said once, and by `weft doctor`
//! ```

mod files;
mod hierarchy;
mod limits;
pub(crate) mod oom;
mod systemd;

use std::io;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use weft_model::InstanceId;

use crate::qemu::GuestSpec;
use files::Files;
use hierarchy::Hierarchies;
pub(crate) use limits::Limits;
use systemd::Systemd;

/// What all groups of guests are below.
const SLICE: &str = "weft.slice";

/// Why a group could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A hierarchy could not be opened.
    #[error("open the cgroup hierarchy of {controllers}")]
    Open {
        /// Its controllers.
        controllers: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// None of the controllers exists.
    #[error("the kernel offers none of the cgroup controllers cpu, memory and pids")]
    NoControllers,
    /// A file or directory of a group could not be changed.
    #[error("{step} {path} of the cgroup hierarchy of {controllers}")]
    Step {
        /// What was attempted.
        step: &'static str,
        /// The file below the hierarchy's root.
        path: String,
        /// The hierarchy's controllers.
        controllers: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// systemd did not make a scope, or did not change one.
    #[error("have systemd limit a scope: {said}")]
    Systemd {
        /// What it said.
        said: String,
    },
}

/// How guests of one agent get their groups. Cheap to keep; nothing is mounted where others see it.
#[derive(Debug)]
pub struct Cgroups {
    prefix: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Systemd(Systemd),
    Files(Files),
    None { why: String },
}

/// What a holder must do, or be started by, to be in its group.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// Nothing: there are no groups.
    Nowhere,
    /// Write `0` to each of these between fork and exec.
    Files(Vec<OwnedFd>),
    /// Be started as the last arguments of this program.
    Scope { program: String, args: Vec<String> },
}

impl Cgroups {
    /// Groups whose names start with `prefix`, prepared for guests to be started: the slice is
    /// made and its controllers are on. Where that fails, guests get no groups.
    pub fn prepare(prefix: &str) -> Self {
        let prepared = if Systemd::is_process_1() {
            Systemd::prepare().map(Kind::Systemd)
        } else {
            let files = Hierarchies::open().map(Files::new);
            files.and_then(|files| files.prepare().map(|()| Kind::Files(files)))
        };
        Self::new(prefix, prepared)
    }

    /// The same groups without changing anything: to remove what is left of them.
    pub fn find(prefix: &str) -> Self {
        let found = if Systemd::is_process_1() {
            Ok(Kind::Systemd(Systemd))
        } else {
            Hierarchies::open().map(|hierarchies| Kind::Files(Files::new(hierarchies)))
        };
        Self::new(prefix, found)
    }

    /// No groups, because of `why`.
    pub fn none(why: impl Into<String>) -> Self {
        Self { prefix: String::new(), kind: Kind::None { why: why.into() } }
    }

    fn new(prefix: &str, kind: Result<Kind, CgroupError>) -> Self {
        let kind = kind.unwrap_or_else(|error| {
            let source = std::error::Error::source(&error);
            let source = source.map(|source| format!(": {source}")).unwrap_or_default();
            Kind::None { why: format!("{error}{source}") }
        });
        Self { prefix: prefix.to_owned(), kind }
    }

    /// How guests are limited, as one sentence; an error where some limit is not kept.
    ///
    /// # Errors
    /// The same kind of sentence, about what is missing.
    pub fn explain(&self) -> Result<String, String> {
        match &self.kind {
            Kind::Systemd(_) => Ok(format!("guests are limited by systemd scopes below {SLICE}")),
            Kind::Files(files) => files.explain(),
            Kind::None { why } => {
                Err(format!("guests run without limits of memory and processes ({why})"))
            }
        }
    }

    /// Makes the group of a guest that is about to be started.
    pub(crate) fn enter(&self, spec: &GuestSpec) -> Result<Entrance, CgroupError> {
        let limits = Limits::new(spec.accel, spec.size(), spec.display);
        match &self.kind {
            Kind::None { .. } => Ok(Entrance::Nowhere),
            Kind::Files(files) => {
                files.make(&self.name(&spec.instance_id), &limits).map(Entrance::Files)
            }
            Kind::Systemd(systemd) => Ok(systemd.entrance(&self.unit(&spec.instance_id), &limits)),
        }
    }

    /// Changes the limits of a guest that runs, whose QEMU is the process `pid`. One that was started
    /// without a group has none.
    pub(crate) fn set(
        &self,
        id: &InstanceId,
        pid: i32,
        limits: &Limits,
    ) -> Result<(), CgroupError> {
        match &self.kind {
            Kind::None { .. } => Ok(()),
            Kind::Files(files) => files.set(&self.name(id), limits),
            Kind::Systemd(systemd) => systemd.set(pid, limits),
        }
    }

    /// Removes a guest's group; false if processes are still in it.
    pub(crate) fn remove(&self, id: &InstanceId) -> Result<bool, CgroupError> {
        match &self.kind {
            // systemd removes a scope when its last process has ended.
            Kind::None { .. } | Kind::Systemd(_) => Ok(true),
            Kind::Files(files) => files.remove(&self.name(id)),
        }
    }

    /// Removes groups with our prefix that no process is in: their guests ended while nobody
    /// looked. Another agent's guests that run are not touched, whatever their prefix.
    ///
    /// # Errors
    /// A group cannot be removed for another reason than being used.
    pub fn sweep(&self) -> Result<(), CgroupError> {
        match &self.kind {
            Kind::None { .. } | Kind::Systemd(_) => Ok(()),
            Kind::Files(files) => files.sweep(&format!("{}-i-", self.prefix)),
        }
    }

    /// Removes the slice, unless another agent's groups are in it.
    ///
    /// # Errors
    /// It cannot be removed for another reason than being used.
    pub fn remove_slice(&self) -> Result<(), CgroupError> {
        match &self.kind {
            Kind::None { .. } | Kind::Systemd(_) => Ok(()),
            Kind::Files(files) => files.remove_slice(),
        }
    }

    fn name(&self, id: &InstanceId) -> String {
        format!("{}-{id}", self.prefix)
    }

    /// Unlike a directory, a scope is of one start: systemd may still be forgetting the last one
    /// when the next begins.
    fn unit(&self, id: &InstanceId) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{}-{id}-{:x}.scope", self.prefix, now.as_micros())
    }
}
