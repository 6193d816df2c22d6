//! The one QMP connection of each guest, and the hints that come from it.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use weft_model::InstanceId;

use super::{ANSWER_DEADLINE, Guests};
use crate::layout::QMP_SOCKET;
use crate::process::ProcessIdentity;
use crate::qmp::{QmpClient, QmpError};
use crate::record::GuestIdentity;
use crate::sys;

/// Events after which a guest's state may be another.
/// Source: QEMU `qapi/run-state.json` and `qapi/block-core.json`.
const TELLING_EVENTS: [&str; 7] =
    ["SHUTDOWN", "STOP", "RESUME", "RESET", "GUEST_PANICKED", "BLOCK_IO_ERROR", "POWERDOWN"];

/// What is kept for one guest; belongs to the process named in it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    process: Option<ProcessIdentity>,
    client: Option<QmpClient>,
    /// Tasks that turn events and the process's end into hints; they end with the slot.
    watchers: JoinSet<()>,
}

impl Guests {
    /// The connection to this QEMU, made if there is none.
    pub(super) async fn client(
        &self,
        id: &InstanceId,
        guest: &GuestIdentity,
    ) -> Result<QmpClient, QmpError> {
        let slot = self.slot(id);
        let mut slot = slot.lock().await;
        self.watch(&mut slot, id, guest);
        if let Some(client) = slot.client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let failed = |source| QmpError::Io { step: "connect to qemu", source };
        let stream = self.guest_dir(id).connect(QMP_SOCKET).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        let stream = UnixStream::from_std(stream).map_err(failed)?;
        let (client, mut events) = QmpClient::connect(stream, ANSWER_DEADLINE).await?;
        slot.client = Some(client.clone());
        let (id, hints) = (id.clone(), self.inner.hints.clone());
        slot.watchers.spawn(async move {
            while let Some(event) = events.recv().await {
                if TELLING_EVENTS.contains(&event.name.as_str()) {
                    tracing::debug!(vm.id = %id, event = %event.name, "qemu reported an event");
                    hint(&hints, &id);
                }
            }
            hint(&hints, &id);
        });
        Ok(client)
    }

    /// Makes the slot belong to this QEMU and gives a hint when its process ends.
    fn watch(&self, slot: &mut Slot, id: &InstanceId, guest: &GuestIdentity) {
        // Finished tasks are only let go here; there are few.
        while slot.watchers.try_join_next().is_some() {}
        if slot.process == Some(guest.qemu) {
            return;
        }
        *slot = Slot { process: Some(guest.qemu), ..Slot::default() };
        for process in [guest.qemu, guest.holder] {
            let (id, hints) = (id.clone(), self.inner.hints.clone());
            slot.watchers.spawn(async move {
                until_ended(process, &id).await;
                hint(&hints, &id);
            });
        }
    }
}

async fn until_ended(process: ProcessIdentity, id: &InstanceId) {
    match process.pidfd().and_then(|fd| fd.map(sys::async_fd).transpose()) {
        // A pidfd is readable when its process has ended: pidfd_open(2).
        Ok(Some(fd)) => drop(fd.readable().await),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(vm.id = %id, %error, "cannot wait for a process, looking at it instead");
            while process.is_alive() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Nobody listening is fine.
pub(super) fn hint(hints: &broadcast::Sender<InstanceId>, id: &InstanceId) {
    let _ = hints.send(id.clone());
}
