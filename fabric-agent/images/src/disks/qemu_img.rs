//! Runs `qemu-img` with bounds: it reads files that came from strangers.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::DiskError;

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
}

impl Default for Limits {
    /// Far above what making an overlay takes: 200 KiB of file and 20 ms of processor time.
    fn default() -> Self {
        Self {
            address_space_bytes: 1 << 30,
            cpu_seconds: 10,
            file_size_bytes: 64 << 20,
            deadline: Duration::from_secs(30),
        }
    }
}

pub(super) async fn run(
    program: &Path,
    arguments: &[&OsStr],
    limits: Limits,
) -> Result<(), DiskError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    bound(&mut command, limits);
    let child = command
        .spawn()
        .map_err(|source| DiskError::NoQemuImg { program: program.to_owned(), source })?;
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
    Err(DiskError::QemuImg { status: output.status.to_string(), message })
}

#[expect(unsafe_code, reason = "resource limits are set between fork and exec")]
fn bound(command: &mut Command, limits: Limits) {
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
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe things may be done: `set` allocates
    // nothing, takes no lock, and setrlimit(2) is a plain system call.
    unsafe {
        command.pre_exec(set);
    }
}
