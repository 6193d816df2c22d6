//! The process that keeps a VPC's network namespace alive while the agent is away.
//!
//! It does nothing: it makes the namespace, writes down who it is, and sleeps. A name under
//! `/run/netns` would not do: it is a bind mount, lost with the mount namespace it was made in.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, process};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigHandler, Signal, signal};
use serde::{Deserialize, Serialize};

use crate::NetworkError;

/// The arguments of `fabric-agent hold-netns`.
#[derive(Clone, Debug)]
pub struct HolderArgs {
    /// Where to write who holds the namespace.
    pub record: PathBuf,
}

/// Who holds a namespace, so that a later agent finds it and no other process is taken for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HolderRecord {
    /// The process.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of proc_pid_stat(5)).
    pub start_time: u64,
    /// The namespace's inode in nsfs.
    pub namespace: u64,
    /// The boot it belongs to: pids and start times repeat after the next.
    pub boot_id: String,
}

/// Makes a namespace and holds it until this process is killed. Call it before any thread exists.
///
/// # Errors
/// Only before the record is written: the namespace or the record could not be made.
pub fn run(args: &HolderArgs) -> Result<(), NetworkError> {
    let failed = |source: io::Error| NetworkError::Holder { action: "become", source };
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE] {
        ignore(ignored).map_err(failed)?;
    }
    // The network of every guest of the VPC hangs on this process. Best effort: without the
    // privilege (CAP_SYS_RESOURCE) it is as killable as any other.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    let record = HolderRecord::of(process::id()).map_err(failed)?;
    record.write(&args.record)?;
    loop {
        nix::unistd::pause();
    }
}

#[expect(unsafe_code, reason = "signal dispositions have no safe interface")]
fn ignore(which: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN installs no handler, so no code of ours runs in signal context.
    unsafe { signal(which, SigHandler::SigIgn) }?;
    Ok(())
}

impl HolderRecord {
    /// Describes a process that lives now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self {
            pid,
            start_time: start_time(pid)?,
            namespace: fs::metadata(format!("/proc/{pid}/ns/net"))?.ino(),
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        })
    }

    /// Whether the process that was written down still lives and holds what it held.
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == *self)
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
    fn write(&self, path: &Path) -> Result<(), NetworkError> {
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
