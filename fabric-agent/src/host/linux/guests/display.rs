//! What guests show.

use tokio::net::UnixStream;
use weft_hypervisor::GuestError;
use weft_model::{InstanceId, Reason};

use super::LinuxGuests;
use crate::host::HostError;

impl LinuxGuests {
    pub(in crate::host::linux) async fn screenshot(
        &self,
        id: &InstanceId,
    ) -> Result<Vec<u8>, HostError> {
        self.guests.screenshot(id).await.map_err(failed(id))
    }

    pub(in crate::host::linux) async fn open_display(
        &self,
        id: &InstanceId,
    ) -> Result<UnixStream, HostError> {
        self.guests.open_display(id).await.map_err(failed(id))
    }
}

fn failed(id: &InstanceId) -> impl FnOnce(GuestError) -> HostError {
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
