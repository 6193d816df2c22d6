//! One disk goes over to a layer that others were merged into: first its guest, then its record.

use weft_model::{InstanceId, InstanceSpec, LayerId, Merge, Problem, Record, VolumeId, VolumeSpec};
use weft_planner::{Action, GuestState};
use weft_store::Txn;

use crate::chain::Chain;
use crate::reconcile::Reconciler;
use crate::repo::{Instances, Kind, Volumes, encode, object_key};

impl Reconciler {
    /// Has a root disk go over to what its layers were merged into, if they were; whether its record is
    /// another one now. Its snapshots are made, and nobody else works on it.
    pub(in crate::reconcile) async fn merge_root(
        &self,
        record: &Record<InstanceId, InstanceSpec>,
        guest: &GuestState,
    ) -> Result<bool, Problem> {
        let layers = &record.spec.root_layers;
        let Some(merge) = self.merges.for_chain(layers) else { return Ok(false) };
        let action = Action::UseMergedRoot {
            instance_id: record.id.clone(),
            layers: layers.clone(),
            merge: merge.clone(),
        };
        if !self.use_merged(&action, &merge, Some((&record.id, guest))).await {
            return Ok(false);
        }
        self.write_merged::<Instances>(&record.id, &merge, |spec| &mut spec.root_layers).await
    }

    /// The same of a volume; `user` is who may have it.
    pub(in crate::reconcile) async fn merge_volume(
        &self,
        record: &Record<VolumeId, VolumeSpec>,
        user: Option<(&InstanceId, &GuestState)>,
    ) -> Result<bool, Problem> {
        let layers = &record.spec.layers;
        let Some(merge) = self.merges.for_chain(layers) else { return Ok(false) };
        let action = Action::UseMergedVolume {
            volume_id: record.id.clone(),
            base: record.spec.base.is_some(),
            layers: layers.clone(),
            merge: merge.clone(),
            instance_id: user.map(|(id, _)| id.clone()),
        };
        if !self.use_merged(&action, &merge, user).await {
            return Ok(false);
        }
        self.write_merged::<Volumes>(&record.id, &merge, |spec| &mut spec.layers).await
    }

    /// Has the guest go over that may have the disk; whether the record may follow.
    async fn use_merged(
        &self,
        action: &Action,
        merge: &Merge,
        user: Option<(&InstanceId, &GuestState)>,
    ) -> bool {
        let epoch = match user.map(|(_, guest)| guest) {
            Some(guest) if guest.is_away() => return false,
            Some(
                GuestState::Running { epoch }
                | GuestState::PoweredOff { epoch }
                | GuestState::Panicked { epoch },
            ) => Some(*epoch),
            _ => None,
        };
        let guest = user.zip(epoch).map(|((id, _), epoch)| (id.clone(), epoch));
        let refusal = guest.map(|(id, epoch)| (id, epoch, merge.merged.clone()));
        if refusal.as_ref().is_some_and(|it| self.merges.inner().refused.contains(it)) {
            return false;
        }
        let Err(error) = self.host.apply(action).await else { return true };
        let (about, for_good) = (action.subjects(), !error.is_retryable());
        let error = Chain(&error).to_string();
        match refusal.filter(|_| for_good) {
            Some(refusal) => {
                tracing::warn!(
                    ?about,
                    error,
                    "a guest goes on with layers that were merged; they take room until it ends"
                );
                self.merges.inner().refused.insert(refusal);
            }
            // Another look tells: a guest that starts or ends just now.
            None => tracing::info!(?about, error, "a disk goes over to merged layers later"),
        }
        false
    }

    /// Has the record say it.
    async fn write_merged<K: Kind>(
        &self,
        id: &K::Id,
        merge: &Merge,
        layers: fn(&mut K::Spec) -> &mut Vec<LayerId>,
    ) -> Result<bool, Problem> {
        let _turn = self.turns.object(&id.to_string()).await;
        let Some(mut stored) = self.repo.find::<K>(id).await? else { return Ok(false) };
        if !merge.replace_in(layers(&mut stored.value.spec)) {
            return Ok(false);
        }
        let key = object_key::<K>(id);
        let txn = Txn::new().when_at(&key, stored.revision).put(key, encode(&stored.value));
        let revision = self.repo.commit(txn).await?;
        self.cache.reached(revision).await;
        tracing::info!(layer.id = %merge.merged, disk.of = %id, "a disk lies over merged layers");
        Ok(true)
    }
}
