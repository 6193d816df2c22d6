//! Blobs go with their last user: images, and instances and snapshots that are made of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_model::{Digest, ImageContent, KernelContent, SnapshotSpec};
use weft_planner::Action;

use super::Reconciler;
use crate::cache::{Change, World};
use crate::error_chain::ErrorChain;
use crate::repo::{Images, Instances, Kind, Snapshots, Volumes};

/// How long an uploaded blob waits for the image that it was uploaded for.
const PIN: Duration = Duration::from_secs(15 * 60);
/// How long an upload that broke off can be gone on with.
const STALE_UPLOAD: Duration = Duration::from_secs(24 * 3600);
/// Kinds of objects that blobs are used by.
const USERS: [&str; 4] = [Images::NAME, Instances::NAME, Snapshots::NAME, Volumes::NAME];
/// Between two looks when nothing is deleted.
const RESYNC: Duration = Duration::from_secs(60);
/// How long others that are deleted together are waited for: one look is for all of them.
const TOGETHER: Duration = Duration::from_millis(500);
/// The first look comes no sooner after the start: a client that waited is given time to go on.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Blobs that stay for a while whoever names them: just uploaded, or being made something of.
///
/// Whoever tells a client that a blob is there, or makes something of it, keeps it first and looks for
/// it then; whoever removes blobs lets nobody keep one between its last look and its end.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    until: Mutex<HashMap<Digest, Instant>>,
    /// Held, for reading, while blobs are pinned; for writing, while one goes.
    removing: RwLock<()>,
}

impl Pins {
    /// Keeps blobs for a while, whoever uses them: those that are there now stay. Waits for a removal
    /// that is under way, and for nothing else.
    pub(crate) async fn keep(&self, digests: impl IntoIterator<Item = Digest>) {
        let _none_goes = self.removing.read().await;
        digests.into_iter().for_each(|digest| self.pin(digest));
    }

    /// The same for as long as `work` takes, and a while longer.
    pub(crate) async fn keep_during<T>(&self, digest: Digest, work: impl Future<Output = T>) -> T {
        self.keep([digest]).await;
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                // It has been kept all the time: no removal is to be waited for.
                () = tokio::time::sleep(PIN / 3) => self.pin(digest),
            }
        }
    }

    /// Held from the last look at what keeps a blob until it is gone.
    async fn stop_keeping(&self) -> RwLockWriteGuard<'_, ()> {
        self.removing.write().await
    }

    fn pin(&self, digest: Digest) {
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
        // Whatever arm is dropped, a look follows, or the end.
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = resync.tick() => {}
            () = reconciler.merges.ended() => {}
            goes_on = deletions(&mut changes) => if !goes_on { return },
        }
        if born.elapsed() >= reconciler.config.sweep_grace {
            super::layers::sweep(reconciler).await;
            sweep(reconciler).await;
        }
    }
}

/// Returns a little after something that uses blobs was deleted, with all that were deleted until
/// then; false where there will be no more changes.
async fn deletions(changes: &mut Receiver<Change>) -> bool {
    loop {
        match changes.recv().await {
            // A snapshot that was made for an image that nobody goes on with is of no use.
            Ok(change)
                if change.kind == Snapshots::NAME
                    || change.deleted && USERS.contains(&change.kind.as_str()) =>
            {
                break;
            }
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => break,
            Err(RecvError::Closed) => return false,
        }
    }
    tokio::time::sleep(TOGETHER).await;
    loop {
        match changes.try_recv() {
            Ok(_) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty) => return true,
            Err(TryRecvError::Closed) => return false,
        }
    }
}

/// Removes uploads that nobody went on with.
async fn abandon_stale(reconciler: &Reconciler) {
    let stale = match reconciler.host.stale_uploads(STALE_UPLOAD).await {
        Ok(stale) => stale,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot list the uploads");
            return;
        }
    };
    for digest in stale {
        tracing::info!(blob.sha256 = %digest, "removing an upload that nobody went on with");
        if let Err(error) = reconciler.host.apply(&Action::AbandonUpload { digest }).await {
            tracing::warn!(blob.sha256 = %digest, error = %ErrorChain(&error), "removing it failed");
        }
    }
}

async fn sweep(reconciler: &Reconciler) {
    abandon_stale(reconciler).await;
    let present = match reconciler.host.blobs().await {
        Ok(present) => present,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot list the blobs");
            return;
        }
    };
    let needed = needed(reconciler);
    for digest in present.into_keys().filter(|digest| !needed.contains(digest)) {
        // One at a time, and looked at anew for each: none is promised to a client in between.
        let _none_is_kept = reconciler.pins.stop_keeping().await;
        if is_needed(reconciler, &digest) {
            continue;
        }
        tracing::info!(blob.sha256 = %digest, "removing a blob that nothing uses");
        // First, so that nothing stays that leads nowhere.
        if let Err(problem) = reconciler.forget_sha512(&digest).await {
            tracing::warn!(blob.sha256 = %digest, error = %problem, "removing a blob failed");
            continue;
        }
        // One that somebody works on is an error too: it goes the next time, nobody waits for it here.
        if let Err(error) = reconciler.host.apply(&Action::RemoveBlob { digest }).await {
            tracing::warn!(blob.sha256 = %digest, error = %ErrorChain(&error), "removing a blob failed");
        }
    }
}

/// All blobs that stay.
fn needed(reconciler: &Reconciler) -> BTreeSet<Digest> {
    let mut needed: BTreeSet<Digest> = used(&reconciler.cache.read()).collect();
    // After the records: what is captured was held before its record went.
    let captured = reconciler.captures.held();
    needed.extend(captured.iter().flat_map(of_snapshot));
    needed.extend(reconciler.pins.pinned());
    needed
}

/// Whether the blob stays, looked at anew.
fn is_needed(reconciler: &Reconciler, digest: &Digest) -> bool {
    let is_it = |needed: Digest| needed == *digest;
    used(&reconciler.cache.read()).any(is_it)
        || reconciler.captures.held().iter().flat_map(of_snapshot).any(is_it)
        || reconciler.pins.pinned().contains(digest)
}

/// The blobs that records need.
fn used(world: &World) -> impl Iterator<Item = Digest> {
    let of_images = world.images.values().map(|image| &image.spec.content);
    let of_instances = world.instances.values().map(|instance| &instance.spec.image);
    let of_images = of_images.chain(of_instances).flat_map(digests);
    let of_snapshots = world.snapshots.values().flat_map(|it| of_snapshot(&it.spec));
    let of_volumes = world.volumes.values().filter_map(|volume| volume.spec.base.as_ref());
    of_images.chain(of_snapshots).chain(of_volumes.map(|base| base.digest))
}

/// The blobs that a snapshot needs: what lies below it, and what it boots with.
fn of_snapshot(spec: &SnapshotSpec) -> Vec<Digest> {
    let kernel = spec.boots.iter().filter_map(|boots| boots.kernel.as_ref());
    let kernel = kernel.flat_map(KernelContent::digests);
    kernel.chain(spec.base.as_ref().map(|base| base.digest)).collect()
}

/// The blobs of an image.
pub(crate) fn digests(content: &ImageContent) -> Vec<Digest> {
    content.kernel.iter().flat_map(KernelContent::digests).chain([content.disk]).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::broadcast;
    use weft_store::Revision;

    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    fn change(kind: &str, deleted: bool) -> Change {
        Change { revision: Revision(1), kind: kind.to_owned(), id: String::new(), deleted }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_deleted_together_is_looked_for_once() {
        let (sender, mut changes) = broadcast::channel(2000);
        sender.send(change(Images::NAME, false)).unwrap();
        for _ in 0..1000 {
            sender.send(change(Instances::NAME, true)).unwrap();
        }
        let late = sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(TOGETHER / 2).await;
            late.send(change(Volumes::NAME, true)).unwrap();
        });
        assert!(deletions(&mut changes).await);
        assert!(changes.is_empty(), "another look would follow");
        drop(sender);
        assert!(!deletions(&mut changes).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_worked_on_is_kept_however_long_it_takes() {
        let pins = Pins::default();
        let work = async {
            tokio::time::sleep(PIN * 7).await;
            pins.pinned()
        };
        assert_eq!(pins.keep_during(digest(1), work).await, [digest(1)].into());
        tokio::time::sleep(PIN).await;
        assert!(pins.pinned().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_a_blob_waits_for_a_removal_and_for_no_work() {
        let pins = Arc::new(Pins::default());
        // Work on one blob, which may take hours, stops no removal of another one.
        let working = Arc::clone(&pins);
        tokio::spawn(
            async move { working.keep_during(digest(1), std::future::pending::<()>()).await },
        );
        tokio::task::yield_now().await;
        let removal = pins.stop_keeping().await;
        let keeping = pins.keep([digest(2)]);
        tokio::pin!(keeping);
        assert!(futures::poll!(&mut keeping).is_pending());
        assert_eq!(pins.pinned(), [digest(1)].into());
        drop(removal);
        keeping.await;
        assert_eq!(pins.pinned(), [digest(1), digest(2)].into());
    }
}
