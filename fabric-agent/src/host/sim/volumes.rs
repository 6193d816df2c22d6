//! Simulated disks of volumes: in the pools that the agent was given, and gone while it is not.

use std::collections::BTreeSet;

use weft_model::{LayerId, Reason, VolumeId, WrappedSecret};
use weft_planner::{Action, GuestVolume};

use super::SimHost;
use super::reality::Volume;
use crate::host::HostError;

impl SimHost {
    /// The layers in pools that are there.
    pub(super) fn layers_there(&self) -> BTreeSet<LayerId> {
        let layers = self.reality.layers().into_iter();
        layers.filter(|(_, pool)| self.pools.dir(pool).is_ok()).map(|(id, _)| id).collect()
    }

    /// Carries out a step about a volume's disk.
    pub(super) async fn change_volume(&self, action: &Action) -> Result<(), HostError> {
        match action {
            Action::MakeVolume { volume_id, pool, size_bytes, below, secret } => {
                self.pools.dir(pool)?;
                self.unwrap(volume_id, secret.as_ref())?;
                let there = self.layers_there();
                if let Some(missing) = below.layers.iter().find(|layer| !there.contains(*layer)) {
                    let what = format!("make the disk of {volume_id}: {missing} is not there");
                    return Err(HostError::new(what, false).reason(Reason::Internal));
                }
                let (pool, layers) = (pool.clone(), below.layers.clone());
                let secret = secret.as_ref().map(|secret| secret.id);
                let volume = Volume { pool, size_bytes: *size_bytes, layers, secret };
                self.reality.put_volume(volume_id, Some(volume)).await
            }
            Action::GrowVolume { volume_id, size_bytes, secret, .. } => {
                let Some(volume) = self.reality.volume(volume_id) else {
                    return Err(HostError::new(format!("grow {volume_id}: it has no disk"), true));
                };
                self.open_disk(volume_id, &volume, secret.as_ref())?;
                let size_bytes = volume.size_bytes.max(*size_bytes);
                self.reality.put_volume(volume_id, Some(Volume { size_bytes, ..volume })).await
            }
            Action::RemoveVolume { volume_id, pool } => {
                self.pools.dir(pool)?;
                if let Some(id) = self.reality.who_has(volume_id) {
                    let what = format!("remove {volume_id}: the guest of {id} has it");
                    return Err(HostError::new(what, false));
                }
                self.reality.put_volume(volume_id, None).await
            }
            other => {
                let what = format!("{}: it is not about a volume's disk", other.name());
                Err(HostError::new(what, false))
            }
        }
    }

    /// Opens the secret as a real host does, which then has a use for it.
    fn unwrap(&self, id: &VolumeId, secret: Option<&WrappedSecret>) -> Result<(), HostError> {
        self.keys.of_disk(format_args!("the volume {id}"), secret).map(drop)
    }

    /// Opens a disk that there is: with what it was made with.
    pub(super) fn open_disk(
        &self,
        id: &VolumeId,
        has: &Volume,
        secret: Option<&WrappedSecret>,
    ) -> Result<(), HostError> {
        self.unwrap(id, secret)?;
        let given = secret.map(|secret| secret.id);
        if given == has.secret {
            return Ok(());
        }
        let what =
            format!("open the disk of {id} with {given:?}: it was made with {:?}", has.secret);
        Err(HostError::new(what, false).reason(Reason::Internal))
    }

    /// Whether a guest can be given the volume: with what lies below it as its disk has it.
    pub(super) fn check_volume(&self, volume: &GuestVolume) -> Result<(), HostError> {
        let id = &volume.volume_id;
        self.pools.dir(&volume.pool)?;
        let Some(has) = self.reality.volume(id) else {
            let what = format!("give {id} to the guest: it has no disk");
            return Err(HostError::new(what, true));
        };
        self.open_disk(id, &has, volume.secret.as_ref())?;
        let there = self.layers_there();
        let (asked, has) = (&volume.below.layers, &has.layers);
        if self.same(has, asked) && asked.iter().all(|layer| there.contains(layer)) {
            return Ok(());
        }
        let what = format!("give {id} over {asked:?} to the guest: its disk lies over {has:?}");
        Err(HostError::new(what, false).reason(Reason::Internal))
    }
}
