//! Ending a guest: asked, then killed, then forgotten.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use weft_model::InstanceId;

use super::{GuestError, Guests};
use crate::layout;
use crate::process::{ProcessIdentity, find_by_uuid};
use crate::record::SpecKey;
use crate::sys;

/// QEMU writes back what it holds and ends; a stuck disk is the only reason to take longer.
const QUIT_DEADLINE: Duration = Duration::from_secs(5);
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// A holder ends right after its QEMU.
const HOLDER_DEADLINE: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl Guests {
    /// Ends QEMU: asked first, killed when it does not go. Does nothing when none runs. How it
    /// ended is there for `observe` afterwards.
    pub async fn quit(&self, id: &InstanceId) -> Result<(), GuestError> {
        if let Some(guest) = self.live_guest(id)? {
            if let Err(error) = self.execute(id, &guest, "quit").await {
                tracing::debug!(vm.id = %id, %error, "qemu was asked to quit");
            }
            if !self.wait_end(id, guest.qemu, QUIT_DEADLINE).await? {
                tracing::warn!(vm.id = %id, "qemu did not quit, killing it");
                self.kill(id, guest.qemu).await?;
            }
        }
        if self.wait_unlocked(id).await? && !self.remove_cgroup(id).await? {
            // Removing the guest tries again, and so does the next agent.
            tracing::warn!(vm.id = %id, "the guest has ended and its control group is still used");
        }
        Ok(())
    }

    /// Removes a guest with everything that belongs to it: processes, then files. Does nothing
    /// when there is none.
    pub async fn purge(&self, id: &InstanceId) -> Result<(), GuestError> {
        self.quit(id).await?;
        weft_crash_points::point("guest.purge.ended");
        if !self.wait_unlocked(id).await?
            && let Some(holder) = self.read::<ProcessIdentity>(id, layout::HOLDER)?
        {
            self.kill(id, holder).await?;
            // It may have started a QEMU since the first look.
            self.quit(id).await?;
        }
        self.kill_unrecorded(id).await?;
        self.forget(id);
        if !self.remove_cgroup(id).await? {
            return Err(GuestError::CgroupInUse { id: id.clone() });
        }
        weft_crash_points::point("guest.purge.before_files");
        match std::fs::remove_dir_all(self.dir(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(GuestError::Remove { id: id.clone(), step: "remove the files", source: error })
            }
            _ => Ok(()),
        }
    }

    /// Kills QEMUs of this guest that no record names: their holder was killed between starting
    /// them and writing it down.
    pub(super) async fn kill_unrecorded(&self, id: &InstanceId) -> Result<(), GuestError> {
        let Some(spec) = self.read::<SpecKey>(id, layout::SPEC)? else { return Ok(()) };
        let found = find_by_uuid(spec.uid, spec.uuid).map_err(|source| GuestError::Remove {
            id: id.clone(),
            step: "look for processes",
            source,
        })?;
        for process in found {
            tracing::warn!(vm.id = %id, process.pid = process.pid, "killing a qemu without record");
            self.kill(id, process).await?;
        }
        Ok(())
    }

    async fn kill(&self, id: &InstanceId, process: ProcessIdentity) -> Result<(), GuestError> {
        process.kill().map_err(|source| GuestError::Remove {
            id: id.clone(),
            step: "kill a process",
            source,
        })?;
        if self.wait_end(id, process, KILL_DEADLINE).await? {
            return Ok(());
        }
        Err(GuestError::StillAlive { id: id.clone(), pid: process.pid })
    }

    /// Whether the process ended within the deadline.
    async fn wait_end(
        &self,
        id: &InstanceId,
        process: ProcessIdentity,
        deadline: Duration,
    ) -> Result<bool, GuestError> {
        let failed =
            |source| GuestError::Remove { id: id.clone(), step: "wait for a process", source };
        let Some(fd) = process.pidfd().map_err(failed)? else { return Ok(true) };
        let fd = sys::async_fd(fd).map_err(failed)?;
        Ok(timeout(deadline, fd.readable()).await.is_ok())
    }

    /// Whether the group is gone; a process leaves it a moment after it has let go of its files.
    async fn remove_cgroup(&self, id: &InstanceId) -> Result<bool, GuestError> {
        let started = Instant::now();
        loop {
            let gone = self.inner.cgroups.remove(id).map_err(|source| GuestError::Cgroup {
                id: id.clone(),
                step: "remove the control group",
                source,
            })?;
            if gone || started.elapsed() > HOLDER_DEADLINE {
                return Ok(gone);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether the holder let go of the lock within its deadline.
    pub(super) async fn wait_unlocked(&self, id: &InstanceId) -> Result<bool, GuestError> {
        let started = Instant::now();
        while self.is_locked(id)? {
            if started.elapsed() > HOLDER_DEADLINE {
                return Ok(false);
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(true)
    }
}
