//! Layers of simulated disks that become one: they have no content, so only what lies over what changes.

use weft_model::{InstanceId, LayerId, Merge, Reason, VolumeId};

use super::SimHost;
use super::reality::{Guest, Volume};
use crate::host::{HostError, Lack};

impl SimHost {
    pub(super) async fn merge_layers(
        &self,
        merge: &Merge,
        below: &[LayerId],
    ) -> Result<(), HostError> {
        let there = self.layers_there();
        if there.contains(&merge.merged) {
            return Ok(());
        }
        let mut needed = below.iter().chain(&merge.layers);
        if let Some(missing) = needed.find(|layer| !there.contains(*layer)) {
            let what = format!("merge layers: {missing} is not there");
            return Err(HostError::new(what, true).lacks(Lack::File));
        }
        let pools = self.reality.layers();
        let mut pools = merge.layers.iter().filter_map(|layer| pools.get(layer));
        let Some(pool) = pools.next() else {
            return Err(HostError::new("merge layers: there are none", false));
        };
        if pools.any(|other| other != pool) {
            let what = "merge layers: they are in different storage pools";
            return Err(HostError::new(what, false));
        }
        self.reality.add_merged(&merge.merged, pool, &merge.layers).await
    }

    pub(super) async fn use_merged_root(
        &self,
        id: &InstanceId,
        layers: &[LayerId],
        merge: &Merge,
    ) -> Result<(), HostError> {
        let has = self.reality.guest(id).unwrap_or_default().layers;
        let goes_on = self.gone_over(id.as_str(), &has, layers, merge)?;
        let change = |guest: &mut Guest| guest.layers = goes_on;
        self.reality.change_guest(id, change).await
    }

    pub(super) async fn use_merged_volume(
        &self,
        id: &VolumeId,
        layers: &[LayerId],
        merge: &Merge,
    ) -> Result<(), HostError> {
        let Some(volume) = self.reality.volume(id) else {
            return Err(HostError::new(format!("merge layers of {id}: it has no disk"), true));
        };
        let layers = self.gone_over(id.as_str(), &volume.layers, layers, merge)?;
        self.reality.put_volume(id, Some(Volume { layers, ..volume })).await
    }

    /// What a disk lies over afterwards that lies over `has`; it has gone over already, perhaps.
    fn gone_over(
        &self,
        id: &str,
        has: &[LayerId],
        before: &[LayerId],
        merge: &Merge,
    ) -> Result<Vec<LayerId>, HostError> {
        let mut after = before.to_vec();
        merge.replace_in(&mut after);
        if !self.layers_there().contains(&merge.merged) || (has != before && has != after) {
            let what =
                format!("have {id} lie over {after:?} instead of {before:?}: it lies over {has:?}");
            return Err(HostError::new(what, false).reason(Reason::Internal));
        }
        Ok(after)
    }
}
