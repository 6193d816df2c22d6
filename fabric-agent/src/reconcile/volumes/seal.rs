//! Snapshots of volumes: carried out by the volumes' loop, also where a guest has the volume.

use weft_model::{Problem, SnapshotId, SnapshotSource, VolumeId};
use weft_planner::{Action, PendingSeal, VolumeUser};

use super::{Failure, VolumeRecord};
use crate::chain::Chain;
use crate::reconcile::Reconciler;
use crate::reconcile::seals::{self, Outcome, settle};
use crate::repo::{Snapshots, Volumes, encode, object_key};

/// The volume's snapshots that are to be made, the oldest first.
pub(super) fn pending(reconciler: &Reconciler, id: &VolumeId) -> Vec<PendingSeal> {
    seals::pending(&reconciler.cache.read(), &SnapshotSource::Volume(id.clone()))
}

/// The instance that the volume is attached to, and its guest.
pub(super) async fn user(
    reconciler: &Reconciler,
    id: &VolumeId,
) -> Result<Option<VolumeUser>, Failure> {
    let attachment = reconciler.cache.read().attachment_of_volume(id).cloned();
    let Some(attachment) = attachment else { return Ok(None) };
    let instance_id = attachment.spec.instance_id;
    let seen = reconciler.host.observe_guest(&instance_id).await.map_err(Failure::Step)?;
    Ok(Some(VolumeUser { instance_id, guest: seen.guest }))
}

/// Carries a seal out; what became of it is to be written down.
pub(super) async fn carry_out(reconciler: &Reconciler, action: Action) -> Result<Outcome, Failure> {
    match (reconciler.host.apply(&action).await, action) {
        (Ok(()), Action::SealVolume { layer, size_bytes, .. }) => {
            Ok(Outcome::Sealed { layer, size_bytes })
        }
        (Ok(()), _) => Ok(Outcome::Failed("it was no snapshot; this is a defect".to_owned())),
        (Err(error), _) if !error.is_retryable() => Ok(Outcome::Failed(Chain(&error).to_string())),
        (Err(error), _) => Err(Failure::Step(error)),
    }
}

/// Ends a snapshot, and gives the volume's record the layer, in one transaction.
pub(super) async fn write_down(
    reconciler: &Reconciler,
    record: &VolumeRecord,
    id: &SnapshotId,
    outcome: Outcome,
) -> Result<(), Problem> {
    // Nobody has two turns: a change of the snapshot at the same moment makes one of both fail, and
    // be tried again.
    let _turn = reconciler.turns.object(record.id.as_str()).await;
    let volume = reconciler.repo.get::<Volumes>(&record.id).await?;
    let snapshot = reconciler.repo.get::<Snapshots>(id).await?;
    if !snapshot.value.spec.is_pending() {
        return Ok(());
    }
    let mut changed = volume.value;
    let sealed = matches!(outcome, Outcome::Sealed { .. });
    let mut txn = settle(snapshot, outcome, &mut changed.spec.layers, reconciler.clock.now());
    if sealed {
        let key = object_key::<Volumes>(&record.id);
        txn = txn.when_at(&key, volume.revision).put(key, encode(&changed));
    }
    let revision = reconciler.repo.commit(txn).await?;
    reconciler.cache.reached(revision).await;
    Ok(())
}
