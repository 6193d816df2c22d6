//! Which network namespaces guests are in, whoever made them.

use std::path::PathBuf;

use weft_model::InstanceId;

use super::{GuestError, Guests};
use crate::layout;
use crate::process::boot_id;
use crate::record::GuestIdentity;

impl Guests {
    /// Files of the namespaces that guests' taps are in, as `/proc/PID/fd/N` of their holders:
    /// there also when the process that made the namespace is gone. Only holders that live are
    /// listed; one may end before its file is opened. A guest whose record cannot be read is left
    /// out, with a warning.
    pub fn netns_paths(&self) -> Vec<PathBuf> {
        let ids = self.list().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the guests to find their network namespaces");
            Vec::new()
        });
        let of_guest = |id: &InstanceId| {
            self.namespaces_of(id).unwrap_or_else(|error| {
                tracing::warn!(vm.id = %id, %error, "cannot find a guest's network namespaces");
                Vec::new()
            })
        };
        ids.iter().flat_map(of_guest).collect()
    }

    fn namespaces_of(&self, id: &InstanceId) -> Result<Vec<PathBuf>, GuestError> {
        let Some(guest) = self.read::<GuestIdentity>(id, layout::GUEST)? else {
            return Ok(Vec::new());
        };
        let boot = boot_id().map_err(|source| GuestError::Record {
            id: id.clone(),
            file: "/proc/sys/kernel/random/boot_id",
            source,
        })?;
        if guest.boot_id != boot || !guest.holder.is_alive() {
            return Ok(Vec::new());
        }
        let path = |fd| format!("/proc/{}/fd/{fd}", guest.holder.pid).into();
        Ok(guest.netns_fds.into_iter().flatten().map(path).collect())
    }
}
