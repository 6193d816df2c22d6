//! The holder: the small process that a guest's QEMU is a child of.
//!
//! It outlives the agent that started it. It opens what QEMU's user may not, starts QEMU, drains
//! and serves the console so that neither a missing agent nor a flooding guest does harm, and
//! writes down how QEMU ended. When the holder itself is killed the guest lives on, without
//! console.
//!
//! One thread, no runtime: there is one of these for every guest.

mod console;
mod files;
mod log;
mod spawn;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, ExitStatus};

use weft_model::{LinkName, VolumeId};

use crate::cgroup::oom;
use crate::error_text::with_causes;
use crate::layout::{self, GuestDir};
use crate::process::{ProcessIdentity, boot_id};
use crate::qemu::{GuestSpec, QemuVersion};
use crate::record::{ExitCause, GuestExit, GuestIdentity, monotonic_ms, now_unix_ms};
use crate::secrets::{self, VolumeSecrets};
use crate::sys;
use console::Console;

/// What kept a guest from being started or held.
#[derive(Debug, thiserror::Error)]
enum HolderError {
    #[error("{step}")]
    Step {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("another holder has the lock")]
    Locked,
    #[error("open {what} {path}")]
    Open {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{what} {path} is not readable by everyone, and qemu reads it as a user of its own; give \
         the file mode 0444 (the directories above it may stay closed)"
    )]
    NotReadable { what: &'static str, path: PathBuf },
    #[error("nobody gave the secret of the encrypted volume {volume_id}")]
    NoSecret { volume_id: VolumeId },
    #[error("open the tap {link}")]
    Tap {
        link: LinkName,
        #[source]
        source: io::Error,
    },
    #[error(
        "qemu {version} cannot take /dev/kvm as a descriptor and the group of /dev/kvm may not \
         open it; run chmod 0660 /dev/kvm, or install a newer qemu"
    )]
    KvmGroup { version: QemuVersion },
    #[error("start {program}")]
    Qemu {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn at(step: &'static str) -> impl Fn(io::Error) -> HolderError {
    move |source| HolderError::Step { step, source }
}

/// Holds the guest that the file at `spec_path` specifies, until its QEMU ends. The file's
/// directory is the guest's. To be called first thing in a process of its own, whose standard
/// input is the locked `lock` file of that directory. `secrets` is the descriptor that it inherits with
/// the secrets of encrypted volumes, where there are any.
pub fn run(spec_path: &Path, secrets: Option<RawFd>) -> ExitCode {
    sys::ignore_session_signals();
    // Fails only where this process leads its session already.
    let _ = nix::unistd::setsid();
    let dir = GuestDir::new(spec_path.parent().unwrap_or_else(|| Path::new(".")));
    match hold(&dir, spec_path, secrets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn hold(dir: &GuestDir, spec_path: &Path, secrets: Option<RawFd>) -> Result<(), HolderError> {
    let _lock = take_lock(dir)?;
    let me = ProcessIdentity::current()
        .ok_or_else(|| at("read /proc/self/stat")(io::ErrorKind::InvalidData.into()))?;
    dir.write(layout::HOLDER, &me).map_err(at("write holder.json"))?;
    let spec = std::fs::read(spec_path).map_err(at("read the specification"))?;
    let spec: GuestSpec =
        serde_json::from_slice(&spec).map_err(|e| at("parse the specification")(e.into()))?;

    let secrets = match secrets {
        Some(fd) => take_secrets(fd).map_err(at("read the secrets of volumes")),
        None => Ok(VolumeSecrets::new()),
    };
    match secrets.and_then(|secrets| start(dir, &spec, &secrets, me)) {
        Ok(started) => serve(dir, &spec, started),
        Err(error) => {
            let cause = ExitCause::NotStarted(with_causes(&error));
            record_exit(dir, &spec, cause, String::new())?;
            Err(error)
        }
    }
}

/// The lock is inherited as standard input; by hand it may also be free.
fn take_lock(dir: &GuestDir) -> Result<File, HolderError> {
    let failed = at("take the lock");
    let own = dir.open_lock().map_err(&failed)?;
    let inherited = io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(&failed)?;
    let identity = |file: &File| file.metadata().map(|m| (m.dev(), m.ino()));
    let same = identity(&own).map_err(&failed)? == identity(&inherited).map_err(&failed)?;
    let lock = if same { inherited } else { own };
    match crate::lock::take(&lock) {
        Ok(true) => Ok(lock),
        Ok(false) => Err(HolderError::Locked),
        Err(error) => Err(failed(error)),
    }
}

struct Started {
    child: Child,
    console: Console,
    /// How many processes of this group the kernel had killed for want of memory before.
    oom_kills: Option<u64>,
    /// Kept open so that the namespaces stay reachable through `/proc`.
    _namespaces: Vec<Option<File>>,
}

fn take_secrets(fd: RawFd) -> io::Result<VolumeSecrets> {
    secrets::from_agent(sys::take_inherited(fd)?)
}

fn start(
    dir: &GuestDir,
    spec: &GuestSpec,
    secrets: &VolumeSecrets,
    me: ProcessIdentity,
) -> Result<Started, HolderError> {
    let console_listener =
        dir.listen(layout::CONSOLE_SOCKET).map_err(at("listen on the console"))?;
    let files = files::GuestFiles::open(dir, spec, secrets)?;
    let oom_kills = oom::kills();
    let mut child = spawn::qemu(spec, &files)?;
    let recorded = record_guest(dir, spec, me, &files, &child)
        .and_then(|()| Console::new(dir, console_listener, &mut child));
    match recorded {
        Ok(console) => {
            Ok(Started { child, console, oom_kills, _namespaces: files.into_namespaces() })
        }
        Err(error) => {
            // A guest that cannot be found again must not run.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn record_guest(
    dir: &GuestDir,
    spec: &GuestSpec,
    me: ProcessIdentity,
    files: &files::GuestFiles,
    child: &Child,
) -> Result<(), HolderError> {
    let no_process = || at("read the start time of qemu")(io::ErrorKind::InvalidData.into());
    let pid = i32::try_from(child.id()).map_err(|_| no_process())?;
    let guest = GuestIdentity {
        epoch: spec.epoch,
        uuid: spec.uuid,
        uid: spec.uid,
        qemu: ProcessIdentity::of_child(pid).ok_or_else(no_process)?,
        holder: me,
        qemu_version: spec.qemu.version,
        boot_id: boot_id().map_err(at("read the boot id"))?,
        started_at_unix_ms: now_unix_ms(),
        started_monotonic_ms: monotonic_ms(),
        netns_fds: files.namespace_fds(),
    };
    dir.write(layout::GUEST, &guest).map_err(at("write guest.json"))
}

fn serve(dir: &GuestDir, spec: &GuestSpec, started: Started) -> Result<(), HolderError> {
    let Started { mut child, mut console, oom_kills, _namespaces } = started;
    let served = i32::try_from(child.id())
        .map_err(io::Error::other)
        .and_then(sys::pidfd_open)
        .and_then(|pidfd| console.serve_until(pidfd.as_fd()));
    if let Err(error) = served {
        // How QEMU ends is worth more than its console. Dropped below, not kept undrained: a full
        // pipe would stop the guest.
        eprintln!("{}", with_causes(&at("serve the console")(error)));
    }
    let stderr_tail = console.stderr_tail();
    drop(console);
    let status = child.wait().map_err(at("wait for qemu"))?;
    let cause = match cause(status) {
        // What the kernel ends for want of memory gets the same signal as from anybody else.
        ExitCause::Signal(libc::SIGKILL) if more(oom::kills(), oom_kills) => ExitCause::OutOfMemory,
        cause => cause,
    };
    record_exit(dir, spec, cause, stderr_tail)
}

fn more(now: Option<u64>, before: Option<u64>) -> bool {
    now.zip(before).is_some_and(|(now, before)| now > before)
}

fn cause(status: ExitStatus) -> ExitCause {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCause::Code(code),
        (None, Some(signal)) => ExitCause::Signal(signal),
        (None, None) => ExitCause::Unknown,
    }
}

fn record_exit(
    dir: &GuestDir,
    spec: &GuestSpec,
    cause: ExitCause,
    stderr_tail: String,
) -> Result<(), HolderError> {
    let exit = GuestExit {
        epoch: spec.epoch,
        cause,
        stderr_tail,
        at_unix_ms: now_unix_ms().max(1),
        at_monotonic_ms: monotonic_ms(),
    };
    dir.write(layout::EXIT, &exit).map_err(at("write exit.json"))?;
    for socket in [layout::CONSOLE_SOCKET, layout::QMP_SOCKET, layout::AGENT_SOCKET] {
        dir.remove(socket).map_err(at("remove a socket"))?;
    }
    Ok(())
}
