//! The memory of guests that are hibernated.

use weft_hypervisor::{
    Booted, GuestError, GuestObservation, MemoryFiles, Resume, SavedMachine, Saving as Written,
};
use weft_model::{InstanceId, Reason};
use weft_planner::{GuestLaunch, GuestState, Saving};

use super::{LinuxGuests, failed};
use crate::error_chain::ErrorChain;
use crate::host::HostError;

/// Besides the memory: the state of the devices.
const DEVICES_MIB: u64 = 64;

/// What failed, where a guest's memory could not be read back.
pub(super) fn not_read_back(id: &InstanceId) -> String {
    format!(
        "read back the memory of {id} (it is kept; weft stop --force {id} throws it away, and the \
         next start boots)"
    )
}

/// The launch of a guest that stands still because its memory is saved, and not for any other reason.
fn is_saved(files: &MemoryFiles, observed: &GuestObservation) -> Option<u64> {
    let (guest, status) = match observed {
        GuestObservation::Halted { guest, status } => (guest, status.as_str()),
        // QEMU's word is "paused" for both.
        GuestObservation::Loaded { guest } => (guest, "paused"),
        _ => return None,
    };
    let stands_still = matches!(status, "paused" | "finish-migrate" | "postmigrate");
    let saves = files.is_begun() || (files.is_saved() && status == "postmigrate");
    (stands_still && saves).then_some(guest.epoch)
}

impl LinuxGuests {
    pub(super) fn memory(&self, id: &InstanceId) -> MemoryFiles {
        MemoryFiles::in_dir(self.dir(id))
    }

    /// What the planner is told of a guest whose memory is being saved.
    pub(super) async fn saving(
        &self,
        id: &InstanceId,
        files: &MemoryFiles,
        observed: &GuestObservation,
    ) -> Option<GuestState> {
        let epoch = is_saved(files, observed)?;
        if files.is_saved() {
            return Some(GuestState::Saving { epoch, saving: Saving::Over });
        }
        let saving = match self.guests.saving(id).await {
            Ok(Written::NotAsked) => Saving::Begun,
            Ok(Written::UnderWay) => Saving::UnderWay,
            Ok(Written::Written | Written::Failed(_)) => Saving::Over,
            // It has just answered: the next look says more.
            Err(error) => {
                tracing::debug!(instance.id = %id, error = %ErrorChain(&error), "how far its memory is saved is not known");
                Saving::UnderWay
            }
        };
        Some(GuestState::Saving { epoch, saving })
    }

    /// What a launch reads back, and what had grown by then.
    pub(super) async fn resume_of(
        &self,
        launch: &GuestLaunch,
    ) -> Result<Option<(Resume, Option<Booted>)>, HostError> {
        let (id, files) = (&launch.instance_id, self.memory(&launch.instance_id));
        let failed =
            |error: std::io::Error| HostError::new(not_read_back(id), true).caused_by(error);
        files.remove_part().await.map_err(failed)?;
        if !launch.resume {
            return Ok(None);
        }
        let SavedMachine { machine, booted, guest_agent } = files.machine().map_err(failed)?;
        Ok(Some((Resume { path: files.saved(), machine, guest_agent }, booted)))
    }

    pub(in crate::host::linux) async fn hibernate(
        &self,
        id: &InstanceId,
        memory_mib: u32,
    ) -> Result<(), HostError> {
        let files = self.memory(id);
        if !files.is_begun() && !files.is_saved() {
            self.check_space(id, memory_mib)?;
        }
        let begun = self.guests.begin_saving(id, &files).await;
        begun.map_err(|error| not_hibernated(id, error))
    }

    pub(in crate::host::linux) async fn keep_memory(
        &self,
        id: &InstanceId,
    ) -> Result<(), HostError> {
        let kept = self.guests.keep_memory(id, &self.memory(id)).await;
        kept.map_err(|error| not_hibernated(id, error))
    }

    /// Refuses what the disk has no room for, before the guest is stopped for it.
    fn check_space(&self, id: &InstanceId, memory_mib: u32) -> Result<(), HostError> {
        let dir = self.dir(id);
        let stat = nix::sys::statvfs::statvfs(&dir).map_err(|error| {
            let what = format!("see how much room there is in {}", dir.display());
            HostError::new(what, true).caused_by(error)
        })?;
        let free_mib = stat.blocks_available().saturating_mul(stat.fragment_size()) >> 20;
        let needed_mib = u64::from(memory_mib) + DEVICES_MIB;
        if free_mib >= needed_mib {
            return Ok(());
        }
        let what = format!(
            "its memory takes up to {needed_mib} MiB in {}, where {free_mib} MiB are free",
            dir.display()
        );
        Err(HostError::new(what, false).reason(Reason::ResourceExhausted))
    }

    pub(in crate::host::linux) async fn resume(&self, id: &InstanceId) -> Result<(), HostError> {
        let resumed = self.guests.resume(id, &self.memory(id)).await;
        resumed.map_err(failed(format!("let the guest of {id} go on")))
    }

    pub(in crate::host::linux) async fn forget_memory(
        &self,
        id: &InstanceId,
    ) -> Result<(), HostError> {
        self.memory(id).remove().await.map_err(|error| {
            HostError::new(format!("throw the saved memory of {id} away"), true).caused_by(error)
        })
    }
}

fn not_hibernated(id: &InstanceId, error: GuestError) -> HostError {
    let what = format!("hibernate {id}");
    match error {
        // It has just ended: the next look says how.
        GuestError::NotRunning { .. } => HostError::new(what, true).caused_by(error),
        error => failed(what)(error),
    }
}
