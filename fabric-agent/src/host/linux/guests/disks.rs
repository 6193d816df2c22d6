//! The files of the disks that a guest is started with: looked at before, so that one that is missing or
//! damaged is told by its name, and not by QEMU.

use std::path::{Path, PathBuf};

use weft_hypervisor::GuestSpec;
use weft_images::{DiskError, FileError, RootDisks};
use weft_model::{InstanceId, Reason};

use super::LinuxGuests;
use crate::host::HostError;

impl LinuxGuests {
    /// Looks for each file of the guest's disks, and reads the headers of those that guests write.
    ///
    /// # Errors
    /// What is missing or damaged is not to be retried: the guest cannot be started before somebody has
    /// put things right. A file that cannot be looked at just now may be there all the same.
    pub(super) async fn check_disks(&self, spec: &GuestSpec) -> Result<(), HostError> {
        let id = &spec.instance_id;
        let below = spec.root.layers.iter().chain([&spec.root.backing.path]);
        let below: Vec<PathBuf> = below.cloned().collect();
        let whose = format!("the root disk of {id}");
        check_disk(&self.disks, id, &whose, &spec.root.overlay, &below).await?;
        for volume in &spec.volumes {
            let below: Vec<PathBuf> = volume.below.iter().map(|it| it.path.clone()).collect();
            let whose = format!("the volume {}", volume.volume_id);
            check_disk(&self.disks, id, &whose, &volume.disk, &below).await?;
        }
        Ok(())
    }
}

async fn check_disk(
    disks: &RootDisks,
    id: &InstanceId,
    whose: &str,
    top: &Path,
    below: &[PathBuf],
) -> Result<(), HostError> {
    let refused = |what: String| {
        let what = format!("start the guest of {id}: {what}");
        HostError::new(what, false).reason(Reason::FailedPrecondition)
    };
    let unseen = |retryable: bool, error: DiskError| {
        let what = format!("start the guest of {id}: look at the files of {whose}");
        HostError::new(what, retryable).reason(Reason::FailedPrecondition).caused_by(error)
    };
    for path in below {
        let there = tokio::fs::try_exists(path).await.map_err(|source| {
            let error = FileError { action: "look for", path: path.clone(), source };
            unseen(error.is_retryable(), error.into())
        })?;
        if !there {
            return Err(refused(format!(
                "{whose} is damaged, and so is all that was made of the same snapshot or image: {}, which it \
                 lies over, is missing; put that file back, or replace what lies over it",
                path.display()
            )));
        }
    }
    let damaged = |how: &str| {
        refused(format!(
            "{whose} is damaged ({how}): put a copy of {} back, or replace it from a snapshot",
            top.display()
        ))
    };
    match disks.disk_bytes(top).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(damaged("its file is missing")),
        Err(DiskError::NotADisk { what, .. }) => Err(damaged(what)),
        Err(error) => Err(unseen(error.is_retryable(), error)),
    }
}

#[cfg(test)]
mod tests {
    use weft_images::Limits;

    use super::*;

    #[tokio::test]
    async fn what_is_missing_or_damaged_is_told_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let disks = RootDisks::new("qemu-img", Limits::default());
        let id = InstanceId::from_random([1; 9]);
        let mut head = vec![0; 512];
        head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        head[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
        let below = [path("blob"), path("layer")];
        let check = async || {
            let top = path("top");
            let checked = check_disk(&disks, &id, "the root disk", &top, &below).await;
            checked.map_err(|error| {
                assert!(!error.is_retryable(), "{error}");
                crate::error_chain::ErrorChain(&error).to_string()
            })
        };
        std::fs::write(path("blob"), "").unwrap();
        let said = check().await.unwrap_err();
        assert!(said.contains("layer") && said.contains("put that file back"), "{said}");
        std::fs::write(path("layer"), "").unwrap();
        let said = check().await.unwrap_err();
        assert!(said.contains("its file is missing") && said.contains("top"), "{said}");
        std::fs::write(path("top"), &head).unwrap();
        check().await.unwrap();
        // As a guest that has taken over its QEMU would have it: the data are in a file of the host.
        head[79] = 4;
        std::fs::write(path("top"), &head).unwrap();
        let said = check().await.unwrap_err();
        assert!(said.contains("another file"), "{said}");
    }

    #[tokio::test]
    async fn what_cannot_be_looked_at_just_now_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let disks = RootDisks::new("qemu-img", Limits::default());
        let id = InstanceId::from_random([1; 9]);
        // Nothing is mapped at address 0: EIO. Links that lead to each other: ELOOP.
        std::os::unix::fs::symlink("/proc/self/mem", path("unreadable")).unwrap();
        std::os::unix::fs::symlink(path("circle"), path("circle")).unwrap();
        let cases = [("unreadable", vec![]), ("absent", vec![path("circle")])];
        for (top, below) in cases {
            let top = path(top);
            let error = check_disk(&disks, &id, "the root disk", &top, &below).await;
            let error = error.unwrap_err();
            assert!(error.is_retryable(), "{}", crate::error_chain::ErrorChain(&error));
        }
    }
}
