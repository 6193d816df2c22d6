//! What guests show: on their serial consoles and on their displays.

use tokio::net::UnixStream;
use weft_hypervisor::GuestError;
use weft_model::{InstanceId, Reason};

use super::{LinuxGuests, failed};
use crate::host::HostError;

impl LinuxGuests {
    pub(in crate::host::linux) fn console_tail(
        &self,
        id: &InstanceId,
        max_bytes: usize,
    ) -> Result<Vec<u8>, HostError> {
        let tail = self.guests.console_tail(id, max_bytes);
        tail.map_err(failed(format!("read the console of {id}")))
    }

    pub(in crate::host::linux) async fn attach_console(
        &self,
        id: &InstanceId,
    ) -> Result<UnixStream, HostError> {
        let attached = self.guests.console_attach(id).await;
        attached.map_err(failed(format!("attach to the console of {id}")))
    }

    pub(in crate::host::linux) async fn screenshot(
        &self,
        id: &InstanceId,
    ) -> Result<Vec<u8>, HostError> {
        self.guests.screenshot(id).await.map_err(not_shown(id))
    }

    pub(in crate::host::linux) async fn open_display(
        &self,
        id: &InstanceId,
    ) -> Result<UnixStream, HostError> {
        self.guests.open_display(id).await.map_err(not_shown(id))
    }
}

fn not_shown(id: &InstanceId) -> impl FnOnce(GuestError) -> HostError {
    let what = format!("show the display of {id}");
    move |error| {
        let reason = match &error {
            GuestError::NoDisplay { .. } | GuestError::NotRunning { .. } => {
                Reason::FailedPrecondition
            }
            _ => Reason::Unavailable,
        };
        HostError::new(what, error.is_retryable()).reason(reason).caused_by(error)
    }
}
