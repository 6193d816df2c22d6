//! Runs `qemu-img` with bounds: it reads files that came from strangers.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use weft_model::DataSecret;

use super::DiskError;
use super::confined::ConfinedUid;
use super::encryption::Passphrase;
use crate::files::FileError;

/// The end of an error message that is kept, in bytes.
const MESSAGE_BYTES: usize = 2_000;

/// What one run of `qemu-img` may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Address space, in bytes (`RLIMIT_AS`).
    pub address_space_bytes: u64,
    /// Processor time, in seconds (`RLIMIT_CPU`).
    pub cpu_seconds: u64,
    /// The largest file it may write, in bytes (`RLIMIT_FSIZE`).
    pub file_size_bytes: u64,
    /// Until it is ended.
    pub deadline: Duration,
    /// Whether it comes after all others who want the processors and the host's disk.
    pub in_background: bool,
}

impl Default for Limits {
    /// Far above what making an overlay takes: 200 KiB of file and 20 ms of processor time.
    fn default() -> Self {
        Self {
            address_space_bytes: 1 << 30,
            cpu_seconds: 10,
            file_size_bytes: 64 << 20,
            deadline: Duration::from_secs(30),
            in_background: false,
        }
    }
}

/// Reads a stranger's file, given as standard input, with no right to anything else: no other file
/// of root's, no network.
pub(super) async fn run_confined(
    program: &Path,
    arguments: &[&OsStr],
    input: File,
    limits: Limits,
) -> Result<(), DiskError> {
    run_with(program, arguments, limits, Some((&ConfinedUid::take(), input)), Vec::new()).await
}

/// The same over files that it inherits, with their numbers in `arguments`, as the user that those
/// were made ready for.
pub(super) async fn run_confined_over(
    program: &Path,
    user: &ConfinedUid,
    arguments: &[&OsStr],
    files: Vec<OwnedFd>,
    limits: Limits,
) -> Result<(), DiskError> {
    let nothing =
        File::open("/dev/null").map_err(FileError::new("open", Path::new("/dev/null")))?;
    run_with(program, arguments, limits, Some((user, nothing)), files).await
}

pub(super) async fn run(
    program: &Path,
    arguments: &[&OsStr],
    limits: Limits,
) -> Result<(), DiskError> {
    run_with(program, arguments, limits, None, Vec::new()).await
}

/// The same for a disk that may be encrypted: `command` gets the passphrase of `secret`.
pub(super) async fn run_on(
    program: &Path,
    command: &str,
    secret: Option<&DataSecret>,
    arguments: &[&OsStr],
    limits: Limits,
) -> Result<(), DiskError> {
    let key = secret.map(Passphrase::open).transpose()?;
    let object = key.as_ref().map(Passphrase::object);
    let arguments = on_disk(command, object.as_deref(), arguments);
    let limits = limits_with(limits, key.as_ref());
    let inherited = key.map(Passphrase::into_fd).into_iter().collect();
    run_with(program, &arguments, limits, None, inherited).await
}

/// The same as [`run_on`] and [`run_confined_over`]: the disk is the file that goes with the command,
/// with its number in `arguments`.
pub(super) async fn run_confined_on(
    program: &Path,
    user: &ConfinedUid,
    (command, disk): (&str, OwnedFd),
    secret: Option<&DataSecret>,
    arguments: &[&OsStr],
    limits: Limits,
) -> Result<(), DiskError> {
    let key = secret.map(Passphrase::open).transpose()?;
    let key = key.map(|key| key.lent_to(user)).transpose()?;
    let object = key.as_ref().map(Passphrase::object);
    let arguments = on_disk(command, object.as_deref(), arguments);
    let limits = limits_with(limits, key.as_ref());
    let files = std::iter::once(disk).chain(key.map(Passphrase::into_fd)).collect();
    run_confined_over(program, user, &arguments, files, limits).await
}

/// The arguments of a command on a disk; `object` is the passphrase's, where there is one.
fn on_disk<'a>(
    command: &'a str,
    object: Option<&'a str>,
    arguments: &[&'a OsStr],
) -> Vec<&'a OsStr> {
    let object = object.into_iter().flat_map(|object| ["--object", object]);
    let told = std::iter::once(command).chain(object).map(OsStr::new);
    told.chain(arguments.iter().copied()).collect()
}

fn limits_with(limits: Limits, key: Option<&Passphrase>) -> Limits {
    if key.is_some() { super::encryption::limits(limits) } else { limits }
}

async fn run_with(
    program: &Path,
    arguments: &[&OsStr],
    limits: Limits,
    confined: Option<(&ConfinedUid, File)>,
    inherited: Vec<OwnedFd>,
) -> Result<(), DiskError> {
    // Without root nothing is to be given up.
    let (user, input) = confined.unzip();
    let user = user.map(ConfinedUid::number).filter(|_| nix::unistd::geteuid().is_root());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(input.map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    bound(&mut command, limits, user, inherited.iter().map(AsRawFd::as_raw_fd).collect());
    let child = command
        .spawn()
        .map_err(|source| DiskError::NoQemuImg { program: program.to_owned(), source })?;
    drop(inherited);
    // The future owns the child: when time is up, dropping it ends the process.
    let output = timeout(limits.deadline, child.wait_with_output())
        .await
        .map_err(|_| DiskError::QemuImgTooSlow { deadline: limits.deadline })?
        .map_err(|source| DiskError::NoQemuImg { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let tail = output.stderr.len().saturating_sub(MESSAGE_BYTES);
    let message = String::from_utf8_lossy(&output.stderr[tail..]).trim().replace('\n', "; ");
    let (status, code) = (output.status.to_string(), output.status.code());
    Err(DiskError::QemuImg { status, code, message })
}

#[expect(unsafe_code, reason = "resource limits are set between fork and exec")]
fn bound(command: &mut Command, limits: Limits, user: Option<u32>, inherited: Vec<RawFd>) {
    let table = [
        (libc::RLIMIT_AS, limits.address_space_bytes),
        (libc::RLIMIT_CPU, limits.cpu_seconds),
        (libc::RLIMIT_FSIZE, limits.file_size_bytes),
        (libc::RLIMIT_CORE, 0),
    ];
    let set = move || {
        for (resource, value) in table {
            let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
            // SAFETY: `limit` outlives the call, which only reads it.
            if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        for fd in &inherited {
            // SAFETY: a plain system call with plain numbers. Fork has copied the descriptor.
            if unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if limits.in_background {
            // SAFETY: plain system calls with plain numbers: this process, the lowest weight, and of
            // those that the disk serves in turn the last (ioprio_set(2): class 2, level 7). Where
            // the disk's scheduler knows no priorities, nothing comes of it.
            unsafe {
                libc::setpriority(libc::PRIO_PROCESS, 0, 19);
                libc::syscall(libc::SYS_ioprio_set, 1, 0, (2 << 13) | 7);
            }
        }
        let Some(user) = user else { return Ok(()) };
        // SAFETY: plain system calls with plain numbers; setgroups reads no element of none. Groups
        // and gid go before the uid that is allowed to change them.
        let failed = unsafe {
            libc::unshare(libc::CLONE_NEWNET) != 0
                || libc::setgroups(0, std::ptr::null()) != 0
                || libc::setresgid(user, user, user) != 0
                || libc::setresuid(user, user, user) != 0
        };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec only async-signal-safe things may be done: `set` allocates
    // nothing, takes no lock, and calls the system only.
    unsafe {
        command.pre_exec(set);
    }
}
