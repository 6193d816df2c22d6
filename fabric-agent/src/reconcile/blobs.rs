//! Blobs go with their last user: images and instances that are made of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_model::{Digest, ImageContent};
use weft_planner::Action;

use super::Reconciler;
use crate::cache::World;
use crate::chain::Chain;
use crate::repo::{Images, Instances, Kind};

/// How long an uploaded blob waits for the image that it was uploaded for.
const PIN: Duration = Duration::from_secs(15 * 60);
/// How long an upload that broke off can be gone on with.
const STALE_UPLOAD: Duration = Duration::from_secs(24 * 3600);
/// Between two looks when nothing is deleted.
const RESYNC: Duration = Duration::from_secs(60);

/// Blobs that were just uploaded and that no image names yet.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    until: Mutex<HashMap<Digest, Instant>>,
}

impl Pins {
    /// Keeps the blob for a while, whoever uses it.
    pub(crate) fn pin(&self, digest: Digest) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.insert(digest, Instant::now() + PIN);
    }

    /// An image names it now.
    pub(crate) fn unpin(&self, digest: &Digest) {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }

    fn pinned(&self) -> BTreeSet<Digest> {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        until.retain(|_, at| *at > now);
        until.keys().copied().collect()
    }
}

pub(super) async fn run(reconciler: &Reconciler, shutdown: CancellationToken) {
    let mut changes = reconciler.cache.changes();
    // A client that was uploading when the agent was restarted names its blobs soon.
    let born = Instant::now();
    loop {
        // Every arm is cancel safe.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RESYNC) => {}
            change = changes.recv() => match change {
                Ok(change) if change.deleted
                    && (change.kind == Images::NAME || change.kind == Instances::NAME) => {}
                Ok(_) => continue,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
        if born.elapsed() >= reconciler.config.sweep_grace {
            sweep(reconciler).await;
        }
    }
}

/// Removes uploads that nobody went on with.
async fn abandon_stale(reconciler: &Reconciler) {
    let stale = match reconciler.host.stale_uploads(STALE_UPLOAD).await {
        Ok(stale) => stale,
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "cannot list the uploads");
            return;
        }
    };
    for digest in stale {
        tracing::info!(blob.sha256 = %digest, "removing an upload that nobody went on with");
        if let Err(error) = reconciler.host.apply(&Action::AbandonUpload { digest }).await {
            tracing::warn!(blob.sha256 = %digest, error = %Chain(&error), "removing it failed");
        }
    }
}

async fn sweep(reconciler: &Reconciler) {
    abandon_stale(reconciler).await;
    let present = match reconciler.host.blobs().await {
        Ok(present) => present,
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "cannot list the blobs");
            return;
        }
    };
    // Pins are read before the world: an image that was made in between is seen in one of them.
    let pinned = reconciler.pins.pinned();
    let used = used(&reconciler.cache.read());
    for digest in present.keys().filter(|digest| !used.contains(digest) && !pinned.contains(digest))
    {
        tracing::info!(blob.sha256 = %digest, "removing a blob that nothing uses");
        if let Err(error) = reconciler.host.apply(&Action::RemoveBlob { digest: *digest }).await {
            tracing::warn!(blob.sha256 = %digest, error = %Chain(&error), "removing a blob failed");
        }
    }
}

fn used(world: &World) -> BTreeSet<Digest> {
    let of_images = world.images.values().map(|image| &image.spec.content);
    let of_instances = world.instances.values().map(|instance| &instance.spec.image);
    of_images.chain(of_instances).flat_map(digests).collect()
}

/// The blobs of an image.
pub(crate) fn digests(content: &ImageContent) -> Vec<Digest> {
    let kernel = content.kernel.iter().flat_map(|kernel| [Some(kernel.kernel), kernel.initrd]);
    kernel.flatten().chain([content.disk]).collect()
}
