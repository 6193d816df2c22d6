//! Blobs go with their last user: images, and instances and snapshots that are made of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_model::{Digest, ImageContent, SnapshotSpec};
use weft_planner::Action;

use super::Reconciler;
use crate::cache::World;
use crate::chain::Chain;
use crate::repo::{Images, Instances, Kind, Snapshots, Volumes};

/// How long an uploaded blob waits for the image that it was uploaded for.
const PIN: Duration = Duration::from_secs(15 * 60);
/// How long an upload that broke off can be gone on with.
const STALE_UPLOAD: Duration = Duration::from_secs(24 * 3600);
/// Kinds of objects that blobs are used by.
const USERS: [&str; 4] = [Images::NAME, Instances::NAME, Snapshots::NAME, Volumes::NAME];
/// Between two looks when nothing is deleted.
const RESYNC: Duration = Duration::from_secs(60);

/// The first look comes no sooner after the start: a client that waited is given time to go on.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Blobs that were just uploaded and that no image names yet.
///
/// Whoever tells a client that a blob is there, or makes an image of it, does so under
/// [`Pins::promise`]; whoever removes blobs stops the promising first.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    until: Mutex<HashMap<Digest, Instant>>,
    promises: RwLock<()>,
}

impl Pins {
    /// Held while blobs are looked for, pinned and told of.
    pub(crate) async fn promise(&self) -> RwLockReadGuard<'_, ()> {
        self.promises.read().await
    }

    /// Held while it is decided that a blob goes, and while it goes.
    async fn stop_promising(&self) -> RwLockWriteGuard<'_, ()> {
        self.promises.write().await
    }

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
    // What an agent that was killed had left to remove does not wait for the next deletion.
    let first = born + reconciler.config.sweep_grace.max(FIRST_LOOK);
    let mut resync = tokio::time::interval_at(first, RESYNC);
    loop {
        // Every arm is cancel safe.
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = resync.tick() => {}
            change = changes.recv() => match change {
                // A snapshot that was made for an image that nobody goes on with is of no use.
                Ok(change) if change.kind == Snapshots::NAME
                    || change.deleted && USERS.contains(&change.kind.as_str()) => {}
                Ok(_) => continue,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
        if born.elapsed() >= reconciler.config.sweep_grace {
            super::layers::sweep(reconciler).await;
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
    for digest in present.keys() {
        let captured = reconciler.captures.in_use();
        if captured.values().flat_map(of_snapshot).any(|needed| needed == *digest) {
            continue;
        }
        // One at a time, and looked at anew for each: none is promised to a client in between.
        let _promises = reconciler.pins.stop_promising().await;
        let pinned = reconciler.pins.pinned();
        if pinned.contains(digest) || used(&reconciler.cache.read()).contains(digest) {
            continue;
        }
        tracing::info!(blob.sha256 = %digest, "removing a blob that nothing uses");
        // First, so that nothing stays that leads nowhere.
        if let Err(problem) = reconciler.forget_sha512(digest).await {
            tracing::warn!(blob.sha256 = %digest, error = %problem, "removing a blob failed");
            continue;
        }
        if let Err(error) = reconciler.host.apply(&Action::RemoveBlob { digest: *digest }).await {
            tracing::warn!(blob.sha256 = %digest, error = %Chain(&error), "removing a blob failed");
        }
    }
}

fn used(world: &World) -> BTreeSet<Digest> {
    let of_images = world.images.values().map(|image| &image.spec.content);
    let of_instances = world.instances.values().map(|instance| &instance.spec.image);
    let of_images = of_images.chain(of_instances).flat_map(digests);
    let of_snapshots = world.snapshots.values().flat_map(|it| of_snapshot(&it.spec));
    let of_volumes = world.volumes.values().filter_map(|volume| volume.spec.base.as_ref());
    of_images.chain(of_snapshots).chain(of_volumes.map(|base| base.digest)).collect()
}

/// The blobs that a snapshot needs: what lies below it, and what it boots with.
fn of_snapshot(spec: &SnapshotSpec) -> Vec<Digest> {
    let kernel = spec.boots.iter().filter_map(|boots| boots.kernel.as_ref());
    let kernel = kernel.flat_map(|kernel| [Some(kernel.kernel), kernel.initrd]).flatten();
    kernel.chain(spec.base.as_ref().map(|base| base.digest)).collect()
}

/// The blobs of an image.
pub(crate) fn digests(content: &ImageContent) -> Vec<Digest> {
    let kernel = content.kernel.iter().flat_map(|kernel| [Some(kernel.kernel), kernel.initrd]);
    kernel.flatten().chain([content.disk]).collect()
}
