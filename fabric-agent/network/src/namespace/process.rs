//! Starts and ends the process that holds a namespace.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::{ForkResult, fork, setsid};

use super::HolderCommand;
use crate::NetworkError;
use crate::holder::HolderRecord;

/// How long a holder may take until its record is there.
pub(super) const HOLDER_DEADLINE: Duration = Duration::from_secs(10);
/// How often to look for it.
pub(super) const HOLDER_POLL: Duration = Duration::from_millis(5);
/// How long a killed holder may take to be gone, in milliseconds.
const END_MILLIS: i32 = 10_000;

/// Starts `command` as nobody's child: in a session of its own and adopted by init, so it neither
/// ends with the agent nor stays as a zombie when it ends.
pub(super) fn spawn_detached(command: &HolderCommand) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Holder { action: "start", source };
    let mut process = Command::new(&command.program);
    process
        .args(&command.args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    detach(&mut process);
    // What is waited for is the process in between, which ends at once.
    process.spawn().map_err(failed)?.wait().map_err(failed)?;
    Ok(())
}

#[expect(unsafe_code, reason = "a second fork before exec is the only way to be adopted by init")]
fn detach(process: &mut Command) {
    // SAFETY: runs between fork and exec in a process of one thread; setsid, fork and _exit are
    // async-signal-safe, nothing is allocated and no lock is taken.
    unsafe {
        process.pre_exec(|| {
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
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
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
