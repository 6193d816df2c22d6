//! Snapshots of volumes: carried out by the volumes' loop, also where a guest has the volume.

use weft_model::{SnapshotId, SnapshotSource, VolumeId};
use weft_planner::{PendingSeal, VolumeUser};

use super::Failure;
use crate::reconcile::Reconciler;
use crate::reconcile::seals::{self, Outcome};
use crate::repo::Volumes;

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

/// Ends a snapshot, and gives the volume's record the layer.
pub(super) async fn write_down(
    reconciler: &Reconciler,
    id: &VolumeId,
    snapshot: &SnapshotId,
    outcome: Outcome,
) -> Result<(), Failure> {
    let written =
        seals::write_down::<Volumes>(reconciler, id, snapshot, outcome, |spec| &mut spec.layers)
            .await;
    written.map_err(Failure::Store)
}
