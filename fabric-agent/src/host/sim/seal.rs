//! Simulated disks whose content becomes a layer.

use weft_model::{InstanceId, LayerId, PoolName, Reason};
use weft_planner::Action;

use super::SimHost;
use super::reality::Guest;
use crate::host::{Done, HostError};

impl SimHost {
    pub(super) async fn seal_root(
        &self,
        id: &InstanceId,
        layer: &LayerId,
        freeze: bool,
    ) -> Result<Done, HostError> {
        let Some(guest) = self.reality.guest(id).filter(|guest| guest.root_disk) else {
            let what = format!("snapshot the root disk of {id}: there is none");
            return Err(HostError::new(what, false).reason(Reason::FailedPrecondition));
        };
        let went_over_before = guest.layers.contains(layer);
        if freeze && !went_over_before {
            self.freeze(id).await?;
        }
        self.reality.add_sealed(layer, &PoolName::standard(), Some(id)).await?;
        weft_crash_points::point("sim.seal.layer_made");
        let change = |guest: &mut Guest| {
            if !guest.layers.contains(layer) {
                guest.layers.push(layer.clone());
            }
        };
        self.reality.change_guest(id, change).await?;
        self.thaw_after(Some(id).filter(|_| freeze), went_over_before).await
    }

    pub(super) async fn seal_volume(&self, action: &Action) -> Result<Done, HostError> {
        let Action::SealVolume { volume_id, pool, layer, secret, instance_id, freeze, .. } = action
        else {
            let what = format!("{}: it seals no volume", action.name());
            return Err(HostError::new(what, false));
        };
        self.pools.dir(pool)?;
        let Some(mut volume) = self.reality.volume(volume_id) else {
            let what = format!("snapshot {volume_id}: it has no disk");
            return Err(HostError::new(what, false).reason(Reason::FailedPrecondition));
        };
        let frozen = instance_id.as_ref().filter(|_| *freeze);
        let went_over_before = volume.layers.contains(layer);
        if !went_over_before {
            // As on a real host: what is done needs no secret, and nothing waits for a lost one.
            let opened = self.open_disk(volume_id, &volume, secret.as_ref());
            opened.map_err(HostError::for_good)?;
            if *freeze && instance_id.is_none() {
                let what = format!("snapshot {volume_id}: its guest has it no more");
                return Err(HostError::new(what, false).reason(Reason::FailedPrecondition));
            }
            if let Some(id) = frozen {
                self.freeze(id).await?;
            }
        }
        self.reality.add_sealed(layer, pool, instance_id.as_ref()).await?;
        weft_crash_points::point("sim.seal.layer_made");
        if !went_over_before {
            volume.layers.push(layer.clone());
        }
        self.reality.put_volume(volume_id, Some(volume)).await?;
        self.thaw_after(frozen, went_over_before).await
    }

    /// Ends a seal for which a guest was frozen; one that does not thaw, now and before, holds up nothing.
    async fn thaw_after(
        &self,
        frozen: Option<&InstanceId>,
        went_over_before: bool,
    ) -> Result<Done, HostError> {
        let Some(id) = frozen else { return Ok(Done::AsAsked) };
        match self.thaw(id).await {
            Ok(()) => Ok(Done::AsAsked),
            Err(_) if went_over_before => {
                Ok(Done::InVain(format!("the guest of {id} does not thaw")))
            }
            Err(error) => Err(error),
        }
    }
}
