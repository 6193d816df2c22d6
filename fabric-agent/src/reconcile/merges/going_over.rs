//! One disk goes over to a layer that others were merged into: first its guest, then its record.

use weft_model::{InstanceId, InstanceSpec, LayerId, Merge, Problem, Record, VolumeId, VolumeSpec};
use weft_planner::{Action, GuestState};
use weft_store::Txn;

use super::open::{Candidates, Refusal};
use crate::error_chain::ErrorChain;
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
        let action = |merge: &Merge| Action::UseMergedRoot {
            instance_id: record.id.clone(),
            layers: layers.clone(),
            merge: merge.clone(),
        };
        let gone_over = self.use_merged(layers, action, Some((&record.id, guest))).await;
        let Some(merge) = gone_over else { return Ok(false) };
        self.write_merged::<Instances>(&record.id, &merge, |spec| Some(&mut spec.root_layers)).await
    }

    /// The same of a volume; `user` is who may have it.
    pub(in crate::reconcile) async fn merge_volume(
        &self,
        record: &Record<VolumeId, VolumeSpec>,
        user: Option<(&InstanceId, &GuestState)>,
    ) -> Result<bool, Problem> {
        let layers = &record.spec.layers;
        let action = |merge: &Merge| Action::UseMergedVolume {
            volume_id: record.id.clone(),
            base: record.spec.base.is_some(),
            layers: layers.clone(),
            merge: merge.clone(),
            instance_id: user.map(|(id, _)| id.clone()),
        };
        let gone_over = self.use_merged(layers, action, user).await;
        let Some(merge) = gone_over else { return Ok(false) };
        self.write_merged::<Volumes>(&record.id, &merge, |spec| Some(&mut spec.layers)).await
    }

    /// Has a disk over `layers`, and first the guest that may have it, go over by `action` to one that some
    /// of them were merged into; to which, so that the record may follow.
    ///
    /// A guest may have gone over already, to any one of them, when an agent died before the record did.
    /// Until the record follows, it refuses all others: so each is tried, and only what is refused where no
    /// other explains it is not tried again for as long as the guest runs.
    async fn use_merged(
        &self,
        layers: &[LayerId],
        action: impl Fn(&Merge) -> Action,
        user: Option<(&InstanceId, &GuestState)>,
    ) -> Option<Merge> {
        let epoch = match user.map(|(_, guest)| guest) {
            Some(guest) if guest.is_away() => return None,
            Some(
                GuestState::Running { epoch }
                | GuestState::PoweredOff { epoch }
                | GuestState::Panicked { epoch },
            ) => Some(*epoch),
            _ => None,
        };
        let guest = user.zip(epoch).map(|((id, _), epoch)| (id, epoch));
        let Candidates { written, more } = self.merges.candidates(layers, guest);
        let (mut later, mut refused) = (more, Vec::new());
        for merge in written {
            let action = action(&merge);
            let Err(error) = self.host.apply(&action).await else { return Some(merge) };
            let (about, for_good) = (action.subjects(), !error.is_retryable());
            let error = ErrorChain(&error).to_string();
            match guest.filter(|_| for_good) {
                Some((id, epoch)) => {
                    let (instance_id, merged) = (id.clone(), merge.merged);
                    refused.push((Refusal { instance_id, epoch, merged }, about, error));
                }
                // Another look tells: a guest that starts or ends just now.
                None => {
                    tracing::info!(?about, error, "a disk goes over to merged layers later");
                    later = true;
                }
            }
        }
        for (refusal, about, error) in refused.into_iter().filter(|_| !later) {
            tracing::warn!(
                ?about,
                error,
                "a guest goes on with layers that were merged; they take room until it ends"
            );
            self.merges.refuse(refusal);
        }
        None
    }

    /// Has the record say it: each by itself, in the turn of who changes it otherwise.
    pub(super) async fn write_merged<K: Kind>(
        &self,
        id: &K::Id,
        merge: &Merge,
        layers: fn(&mut K::Spec) -> Option<&mut Vec<LayerId>>,
    ) -> Result<bool, Problem> {
        let _turn = self.turns.object(&id.to_string()).await;
        let Some(mut stored) = self.repo.find::<K>(id).await? else { return Ok(false) };
        let layers = layers(&mut stored.value.spec);
        if !layers.is_some_and(|layers| merge.replace_in(layers)) {
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
