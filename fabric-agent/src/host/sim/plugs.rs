//! What comes to and goes from a simulated guest while it runs.

use weft_model::{InstanceId, InterfaceId, VolumeId};
use weft_planner::{GuestNic, GuestVolume};

use super::SimHost;
use super::behaviour::Behaviour;
use super::reality::Guest;
use crate::host::HostError;

impl SimHost {
    pub(super) async fn plug_nic(&self, id: &InstanceId, nic: &GuestNic) -> Result<(), HostError> {
        let change = |guest: &mut Guest| {
            guest.nics.insert(nic.interface_id.clone());
            guest.links.insert(nic.interface_id.clone(), nic.link.clone());
        };
        self.reality.change_guest(id, change).await
    }

    pub(super) async fn unplug_nic(
        &self,
        id: &InstanceId,
        interface_id: &InterfaceId,
    ) -> Result<(), HostError> {
        let guest = self.reality.guest(id).unwrap_or_default();
        if guest.behaviour == Behaviour::KeepsNics && guest.nics.contains(interface_id) {
            let what = format!("the guest of {id} does not let go of {interface_id}");
            return Err(HostError::new(what, true));
        }
        let change = |guest: &mut Guest| {
            guest.nics.remove(interface_id);
        };
        self.reality.change_guest(id, change).await
    }

    pub(super) async fn plug_volume(
        &self,
        id: &InstanceId,
        volume: &GuestVolume,
    ) -> Result<(), HostError> {
        let volume_id = &volume.volume_id;
        self.check_volume(volume)?;
        let change = |guest: &mut Guest| {
            guest.volumes.insert(volume_id.clone());
            guest.volume_limits.remove(volume_id);
        };
        self.reality.change_guest(id, change).await
    }

    pub(super) async fn unplug_volume(
        &self,
        id: &InstanceId,
        volume_id: &VolumeId,
    ) -> Result<(), HostError> {
        let guest = self.reality.guest(id).unwrap_or_default();
        if guest.behaviour == Behaviour::KeepsVolumes && guest.volumes.contains(volume_id) {
            let what = format!("the guest of {id} does not let go of {volume_id}");
            return Err(HostError::new(what, true));
        }
        let change = |guest: &mut Guest| {
            guest.volumes.remove(volume_id);
        };
        self.reality.change_guest(id, change).await
    }
}
