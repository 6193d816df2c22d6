//! Starts and ends the process that holds a namespace.
//!
//! Its standard output is a pipe that it never writes to: the pipe's end is the process's end. Its
//! standard error is a file beside its record, `RECORD.log`, of the last start alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, fork, setsid};

use super::HolderCommand;
use crate::NetworkError;
use crate::holder::HolderRecord;

/// How long a holder may take until its record is there.
pub(super) const HOLDER_DEADLINE: Duration = Duration::from_secs(10);
/// How often to look for it.
pub(super) const HOLDER_POLL: Duration = Duration::from_millis(5);
/// What a holder may write to any file: its record and its last words are far shorter.
const FILE_LIMIT_BYTES: libc::rlim_t = 64 << 10;
/// How much of its last words goes into an error.
const LAST_WORDS_BYTES: usize = 2 << 10;
/// How long a killed holder may take to be gone, in milliseconds.
const END_MILLIS: i32 = 10_000;

/// A holder that was started and has not written its record yet.
#[derive(Debug)]
pub(super) struct Started {
    /// The reading end of its standard output.
    life: PipeReader,
    log: PathBuf,
}

impl Started {
    pub(super) fn has_ended(&self) -> Result<bool, NetworkError> {
        let mut fds = [PollFd::new(self.life.as_fd(), PollFlags::empty())];
        // POLLHUP is always asked for: poll(2).
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(NetworkError::Holder { action: "watch", source: errno.into() }),
        }
    }

    /// The end of its log: best effort, this goes into an error that is told anyway.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LAST_WORDS_BYTES)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }
}

/// Where the holder of `record` writes its last words.
pub(super) fn log_of(record: &Path) -> PathBuf {
    record.with_extension("log")
}

/// Starts `command` as nobody's child: in a session of its own and adopted by init, so it neither
/// ends with the agent nor stays as a zombie when it ends.
pub(super) fn spawn_detached(
    command: &HolderCommand,
    record: &Path,
) -> Result<Started, NetworkError> {
    let failed = |source| NetworkError::Holder { action: "start", source };
    let log = log_of(record);
    let stderr = create_log(&log).map_err(|source| NetworkError::Record {
        action: "write",
        path: log.clone(),
        source,
    })?;
    let (life, stdout) = io::pipe().map_err(failed)?;
    let mut process = Command::new(&command.program);
    process
        .args(&command.args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    detach(&mut process);
    // What is waited for is the process in between, which ends at once.
    process.spawn().map_err(failed)?.wait().map_err(failed)?;
    // With `process` goes our copy of the pipe's writing end.
    Ok(Started { life, log })
}

fn create_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}

#[expect(unsafe_code, reason = "a second fork before exec is the only way to be adopted by init")]
fn detach(process: &mut Command) {
    // SAFETY: runs between fork and exec in a process of one thread; setrlimit, setsid, fork and
    // _exit are async-signal-safe, the limit is a local that is read only during the call, nothing
    // is allocated and no lock is taken.
    unsafe {
        process.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: FILE_LIMIT_BYTES, rlim_max: FILE_LIMIT_BYTES };
            if libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) < 0 {
                return Err(io::Error::last_os_error());
            }
            setsid()?;
            match fork()? {
                ForkResult::Child => Ok(()),
                ForkResult::Parent { .. } => libc::_exit(0),
            }
        });
    }
}

/// Kills the holder, if it still is the process that was written down, and waits until it is gone.
pub(super) async fn end(holder: &HolderRecord) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Holder { action: "end", source };
    let pidfd = match pidfd_open(holder.pid) {
        Ok(pidfd) => pidfd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    // After opening: the pidfd is the process that the record means, or the record is stale.
    if !holder.is_alive() {
        return Ok(());
    }
    match pidfd_kill(&pidfd) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(failed(error)),
        _ => {}
    }
    let gone = tokio::task::spawn_blocking(move || wait_gone(&pidfd)).await;
    gone.map_err(|join| failed(io::Error::other(join)))?.map_err(failed)
}

fn wait_gone(pidfd: &OwnedFd) -> io::Result<()> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(END_MILLIS).map_err(io::Error::other)?;
    match poll(&mut fds, timeout)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

#[expect(unsafe_code, reason = "pidfd_open(2) has no wrapper in nix")]
fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: two integers go in; the result is an error or a new descriptor that nobody owns yet.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[expect(unsafe_code, reason = "pidfd_send_signal(2) has no wrapper in nix")]
fn pidfd_kill(pidfd: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call; the null pointer means default siginfo.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
