//! An instance's volumes: read off the world, reported, and let go of.

use std::collections::BTreeSet;

use weft_model::{InstanceId, Problem, Record, SnapshotSource, VolumeId, VolumeSpec};
use weft_planner::{AttachedVolume, GuestVolume, SeenVolumes};
use weft_store::Txn;

use super::{Failure, Pass};
use crate::host::HostError;
use crate::reconcile::Reconciler;
use crate::reconcile::hands::Held;
use crate::reconcile::seals::pending;
use crate::reconcile::volumes::Condition;
use crate::repo::{RecordOf, VolumeAttachments, Volumes, attached_volume_key, encode, object_key};

/// Removes an attachment, and the claim on its volume.
fn detach(txn: Txn, attachment: &RecordOf<VolumeAttachments>) -> Txn {
    txn.delete(object_key::<VolumeAttachments>(&attachment.id))
        .delete(attached_volume_key(attachment.id.second()))
}

impl Reconciler {
    /// Keeps the volumes that are attached to an instance as they are: while this is held no snapshot
    /// of one is made, and its guest can be given them, or let go of them.
    pub(super) async fn hold_volumes(&self, id: &InstanceId) -> Held<'_> {
        let attached = || -> BTreeSet<VolumeId> {
            let world = self.cache.read();
            world.volumes_of(id).map(|it| it.id.second().clone()).collect()
        };
        loop {
            let held = self.volumes.hands.take(attached()).await;
            // One may have come meanwhile.
            if attached().is_subset(held.ids()) {
                return held;
            }
        }
    }
}

impl Pass<'_> {
    fn volume_attachments(&self) -> Vec<RecordOf<VolumeAttachments>> {
        self.reconciler.cache.read().volumes_of(&self.record.id).cloned().collect()
    }

    /// What is attached now, by place.
    pub(super) fn attached_volumes(&self) -> Vec<AttachedVolume> {
        let world = self.reconciler.cache.read();
        let complete = |attachment: &RecordOf<VolumeAttachments>| {
            let record: &Record<VolumeId, VolumeSpec> =
                world.volumes.get(attachment.id.second())?;
            let condition = self.reconciler.volumes.condition(&record.id);
            Some(AttachedVolume {
                volume: GuestVolume {
                    volume_id: record.id.clone(),
                    place: attachment.spec.place,
                    pool: record.spec.volume_type.clone(),
                    below: record.spec.below(),
                    secret: record.spec.secret.clone(),
                },
                leaving: attachment.deleting_since.is_some(),
                ready: matches!(condition, Some(Condition::Made { .. })),
                limits: record.spec.limits,
                sealing: !pending(&world, &SnapshotSource::Volume(record.id.clone())).is_empty(),
            })
        };
        let mut volumes: Vec<_> = world.volumes_of(&self.record.id).filter_map(complete).collect();
        volumes.sort_by_key(|attached| attached.volume.place);
        volumes
    }

    /// Removes the attachments of volumes that no guest has any more.
    pub(super) async fn release_volumes(&self, ids: &[VolumeId]) -> Result<(), Problem> {
        let mut gone = self.volume_attachments();
        gone.retain(|it| ids.contains(it.id.second()) && it.deleting_since.is_some());
        self.forget_attachments::<VolumeAttachments>(&gone, detach).await
    }

    /// What becomes of the volumes with the instance, for the transaction that forgets it: those that
    /// go with it are asked to go.
    pub(super) async fn forget_volumes(&self, mut txn: Txn) -> Result<Txn, Problem> {
        let reconciler = self.reconciler;
        for attachment in &self.volume_attachments() {
            txn = detach(txn, attachment);
            if !attachment.spec.delete_on_termination {
                continue;
            }
            let Some(stored) = reconciler.repo.find::<Volumes>(attachment.id.second()).await?
            else {
                continue;
            };
            let mut volume = stored.value;
            volume.deleting_since.get_or_insert_with(|| reconciler.clock.now());
            let key = object_key::<Volumes>(&volume.id);
            // Who changes it at this moment is faster, and this is tried again.
            txn = txn.when_at(&key, stored.revision).put(key, encode(&volume));
        }
        Ok(txn)
    }

    /// Tells who waits for it what the guest has, and people what it cannot be given.
    pub(super) fn note_volumes(&mut self, attached: &[AttachedVolume], seen: &SeenVolumes) {
        let has = match seen {
            SeenVolumes::Has(has) => Some(has.clone()),
            SeenVolumes::Fixed | SeenVolumes::Unknown => None,
        };
        if *seen == SeenVolumes::Fixed && !attached.is_empty() && self.trouble.is_none() {
            self.trouble = Some(
                "its guest was started by an agent of an older version and can be given no volume \
                 while it runs: stop and start it to have those that are attached to it"
                    .to_owned(),
            );
        }
        self.reconciler.plugged_volumes.note(&self.record.id, has);
    }

    /// Why the instance cannot be started yet.
    pub(super) fn awaits_volume(&self, id: &VolumeId) -> Failure {
        let why = match self.reconciler.volumes.condition(id) {
            Some(Condition::Failed(why)) => format!("its volume {id} is not there yet: {why}"),
            Some(Condition::Made { .. }) => format!("a snapshot of its volume {id} is made first"),
            None => format!("its volume {id} is not there yet"),
        };
        Failure::Step(HostError::new(why, true))
    }
}
