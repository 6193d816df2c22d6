//! The process that keeps a VPC's network namespace alive while the agent is away.
//!
//! It does nothing: it makes the namespace, writes down who it is, and sleeps. A name under
//! `/run/netns` would not do: it is a bind mount, lost with the mount namespace it was made in.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, process};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::{Deserialize, Serialize};

use crate::NetworkError;

/// The arguments of `fabric-agent hold-netns`.
#[derive(Clone, Debug)]
pub struct HolderArgs {
    /// Where to write who holds the namespace.
    pub record: PathBuf,
    /// A namespace that exists, to be held instead of a new one.
    pub join: Option<PathBuf>,
}

/// Who holds a namespace, so that a later agent finds it and no other process is taken for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HolderRecord {
    /// The process.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of proc_pid_stat(5)).
    pub start_time: u64,
    /// The namespace's inode in nsfs. The kernel gives it to another namespace when this one is
    /// gone.
    pub namespace: u64,
    /// The namespace's cookie, which no other namespace of this boot ever has (SO_NETNS_COOKIE,
    /// Linux 5.14); `None` from an older kernel.
    #[serde(default)]
    pub cookie: Option<u64>,
    /// The boot it belongs to: pids and start times repeat after the next.
    pub boot_id: String,
}

/// Makes a namespace, or joins one, and holds it until this process is killed. Call it before any
/// thread exists.
///
/// # Errors
/// Only before the record is written: the namespace or the record could not be made.
pub fn run(args: &HolderArgs) -> Result<(), NetworkError> {
    let failed = |source: io::Error| NetworkError::Holder { action: "become", source };
    match &args.join {
        None => unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?,
        Some(path) => join(path)?,
    }
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE] {
        ignore(ignored).map_err(failed)?;
    }
    // The network of every guest of the VPC hangs on this process. Best effort: without the
    // privilege (CAP_SYS_RESOURCE) it is as killable as any other.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    let record = HolderRecord::of(process::id()).map_err(failed)?;
    let cookie = cookie().map_err(failed)?;
    HolderRecord { cookie, ..record }.write(&args.record)?;
    loop {
        nix::unistd::pause();
    }
}

fn join(path: &Path) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Enter { namespace: path.display().to_string(), source };
    let namespace = fs::File::open(path).map_err(failed)?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))
}

/// The cookie of the namespace that the calling thread is in; `None` if the kernel has none.
#[expect(unsafe_code, reason = "SO_NETNS_COOKIE has no wrapper in nix")]
pub(crate) fn cookie() -> io::Result<Option<u64>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes to `cookie`,
    // which has as many.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    match (done, io::Error::last_os_error()) {
        (0, _) => Ok(Some(cookie)),
        (_, error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        (_, error) => Err(error),
    }
}

#[expect(unsafe_code, reason = "signal dispositions have no safe interface")]
fn ignore(which: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN installs no handler, so no code of ours runs in signal context.
    unsafe { signal(which, SigHandler::SigIgn) }?;
    Ok(())
}

impl HolderRecord {
    /// Describes a process that lives now, without its namespace's cookie.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self {
            pid,
            start_time: start_time(pid)?,
            namespace: fs::metadata(format!("/proc/{pid}/ns/net"))?.ino(),
            cookie: None,
            boot_id: boot_id()?,
        })
    }

    /// Whether the process that was written down still lives and holds what it held.
    pub(crate) fn is_alive(&self) -> bool {
        // What a process is in and was when it wrote the cookie down has not changed since.
        let now = Self::of(self.pid);
        now.is_ok_and(|now| Self { cookie: self.cookie, ..now } == *self)
    }

    /// Whether the record is of this boot of the machine: what it tells of may still exist.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|now| now == self.boot_id)
    }

    /// `None` if there is no record; a record that cannot be understood is an error.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, NetworkError> {
        let failed = |source| NetworkError::Record { action: "read", path: path.into(), source };
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| failed(e.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Readers see nothing or all of it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::Record { action: "write", path: path.into(), source };
        let partial = path.with_extension("partial");
        let bytes = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        let write = || {
            let mut file = fs::File::create(&partial)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&partial, path)
        };
        write().map_err(failed)
    }

    pub(crate) fn forget(path: &Path) -> Result<(), NetworkError> {
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(NetworkError::Record { action: "remove", path: path.into(), source })
            }
            _ => Ok(()),
        }
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The 22nd field; the second, the name in parentheses, may contain anything.
fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest);
    after_name
        .and_then(|rest| rest.split_ascii_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_file_and_knows_the_living() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        assert_eq!(HolderRecord::read(&path).unwrap(), None);
        let record = HolderRecord::of(process::id()).unwrap();
        record.write(&path).unwrap();
        let read = HolderRecord::read(&path).unwrap().unwrap();
        assert_eq!(read, record);
        assert!(read.is_alive());
        let reused = HolderRecord { start_time: read.start_time + 1, ..read };
        assert!(!reused.is_alive(), "another process with the same pid is not the holder");
        HolderRecord::forget(&path).unwrap();
        HolderRecord::forget(&path).unwrap();
    }

    #[test]
    fn half_a_record_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        fs::write(&path, "{\"pid\":").unwrap();
        assert!(HolderRecord::read(&path).is_err());
    }
}
