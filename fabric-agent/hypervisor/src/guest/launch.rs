//! Starting a guest: the agent's half, up to the moment when QEMU says that it runs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use weft_model::InstanceId;

use super::{GuestError, GuestObservation, Guests, HolderCommand};
use crate::cgroup::Entrance;
use crate::layout::{self, GuestDir};
use crate::lock;
use crate::qemu::GuestSpec;
use crate::secrets::{VolumeSecrets, for_holder};
use crate::sys;

/// QEMU answers within a second on an idle machine; a busy one gets time.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// What opening one encrypted file takes on a busy machine: LUKS tries its passphrase in as many rounds
/// as were made for it.
const DECRYPT_DEADLINE: Duration = Duration::from_secs(2);
/// Memory is read back as fast as a disk reads.
const READ_BACK_PER_GIB: Duration = Duration::from_secs(30);
/// A holder has the lock for a moment after it wrote how its guest ended.
const HOLDER_END_DEADLINE: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
const HOLDER_LOG_TAIL_BYTES: u64 = 2048;

impl Guests {
    /// Starts a guest and waits until QEMU says that it runs.
    ///
    /// The holder gets the lock of the guest's directory by inheritance, so at no moment can a
    /// second one start, also when the agent is killed in between. After an error the guest is
    /// either not there or found by `observe`.
    pub async fn launch(&self, spec: &GuestSpec, holder: &HolderCommand) -> Result<(), GuestError> {
        self.launch_with(spec, holder, &VolumeSecrets::new()).await
    }

    /// The same of a guest that has encrypted volumes; the holder gets their secrets as it gets the
    /// lock, for they are in no file.
    pub async fn launch_with(
        &self,
        spec: &GuestSpec,
        holder: &HolderCommand,
        secrets: &VolumeSecrets,
    ) -> Result<(), GuestError> {
        let id = &spec.instance_id;
        let dir = self.guest_dir(id);
        let prepare = |step| move |source| GuestError::Prepare { id: id.clone(), step, source };
        dir.create().map_err(prepare("make the directory"))?;
        let lock = dir.open_lock().map_err(prepare("open the lock"))?;
        let asked = Instant::now();
        loop {
            let taken = lock::take(&lock).map_err(prepare("take the lock"))?;
            let lives = self.live_guest(id)?.is_some();
            if taken && !lives {
                break;
            }
            if lives || asked.elapsed() > HOLDER_END_DEADLINE {
                return Err(GuestError::AlreadyRunning { id: id.clone() });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        self.kill_unrecorded(id).await?;
        dir.clear_start().map_err(prepare("remove what the last start left"))?;
        dir.write(layout::SPEC, spec).map_err(prepare("write the specification"))?;
        weft_crash_points::point("guest.launch.specified");
        let entrance = self.inner.cgroups.enter(spec).map_err(|source| GuestError::Cgroup {
            id: id.clone(),
            step: "make its control group",
            source,
        })?;
        weft_crash_points::point("guest.launch.grouped");
        let secrets = match secrets.is_empty() {
            true => None,
            false => Some(for_holder(secrets).map_err(prepare("keep the secrets of volumes"))?),
        };
        let child = spawn(&dir, lock, secrets, holder, entrance).map_err(|source| {
            GuestError::Holder { id: id.clone(), program: holder.program.clone(), source }
        })?;
        weft_crash_points::point("guest.launch.holder_started");
        let seconds = match spec.resume {
            None => START_DEADLINE,
            Some(_) => START_DEADLINE + READ_BACK_PER_GIB * spec.size().memory_mib.div_ceil(1024),
        };
        let encrypted = spec.volumes.iter().filter(|volume| volume.encrypted);
        let files = encrypted.map(|volume| volume.files().count()).sum::<usize>();
        let files = u32::try_from(files).unwrap_or(u32::MAX);
        let deadline = seconds.saturating_add(DECRYPT_DEADLINE.saturating_mul(files));
        self.wait_until_running(id, &dir, child, deadline).await
    }

    async fn wait_until_running(
        &self,
        id: &InstanceId,
        dir: &GuestDir,
        mut child: Child,
        deadline: Duration,
    ) -> Result<(), GuestError> {
        let started = Instant::now();
        let mut ended = None;
        loop {
            match self.observe(id).await? {
                GuestObservation::Running { .. } => break,
                // It was quick: it ran, and that is what was asked for.
                GuestObservation::PoweredOff { .. } | GuestObservation::Panicked { .. } => break,
                // It waits for whoever resumes it.
                GuestObservation::Loading { .. } | GuestObservation::Loaded { .. } => break,
                GuestObservation::Exited { exit } if exit.at_unix_ms > 0 => {
                    reap(child);
                    // Its last act: whoever hears of the failure may launch again.
                    self.wait_unlocked(id).await?;
                    let (cause, stderr_tail) = (exit.cause, exit.stderr_tail);
                    return Err(GuestError::Start { id: id.clone(), cause, stderr_tail });
                }
                _ => {}
            }
            if let Some(status) = ended {
                let log = dir.tail(layout::HOLDER_LOG, HOLDER_LOG_TAIL_BYTES).unwrap_or_default();
                let log = String::from_utf8_lossy(&log).trim().to_owned();
                return Err(GuestError::HolderEnded { id: id.clone(), status, log });
            }
            // After this one more look is taken: the holder writes its records before it ends.
            ended = match child.try_wait() {
                Ok(status) => status.map(|status| status.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if started.elapsed() > deadline {
                reap(child);
                let seconds = deadline.as_secs();
                return Err(GuestError::StartTimeout { id: id.clone(), seconds });
            }
            sleep(POLL_INTERVAL).await;
        }
        reap(child);
        Ok(())
    }
}

/// Starts the holder in its control group, with the locked file as its standard input.
#[expect(unsafe_code, reason = "work between fork and exec")]
fn spawn(
    dir: &GuestDir,
    lock: File,
    secrets: Option<OwnedFd>,
    holder: &HolderCommand,
    entrance: Entrance,
) -> io::Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(dir.file(layout::HOLDER_LOG))?;
    let (mut command, groups) = match entrance {
        Entrance::Nowhere => (Command::new(&holder.program), Vec::new()),
        Entrance::Files(groups) => (Command::new(&holder.program), groups),
        Entrance::Scope { program, args } => {
            let mut command = Command::new(program);
            command.args(args).arg(&holder.program);
            (command, Vec::new())
        }
    };
    command.args(&holder.args).arg(dir.file(layout::SPEC));
    if let Some(secrets) = &secrets {
        command.arg(HolderCommand::SECRETS).arg(secrets.as_raw_fd().to_string());
    }
    command
        .current_dir("/")
        .stdin(Stdio::from(lock))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .kill_on_drop(false);
    // SAFETY: system calls only, none of which allocates.
    unsafe {
        command.pre_exec(move || {
            sys::inherit_standard_streams_only();
            secrets.iter().try_for_each(|fd| sys::clear_cloexec(fd.as_raw_fd()))?;
            groups.iter().try_for_each(|group| sys::enter_cgroup(group.as_fd()))
        });
    }
    command.spawn()
}

/// The holder is a child of this agent: without a wait it would stay a zombie.
fn reap(mut child: Child) {
    tokio::spawn(async move {
        if let Err(error) = child.wait().await {
            tracing::warn!(%error, "cannot wait for a guest's holder");
        }
    });
}
