//! Blobs that the agent fetches itself: one download for each digest, however many ask for it.
//!
//! ```text
//!   Fetch ─┐                          ┌─▶ Host::apply(Begin, Append.., FinishUpload)
//!   Fetch ─┼─ watch ◀─ one Download ──┤
//!   Fetch ─┘                          └─▶ retries, from where the part ends
//! ```
//!
//! A download outlives a client whose connection breaks, but not for long: nobody who has pressed
//! Ctrl-C wants the link to be full for an hour. What has come is kept as a part.

mod checksum;
mod download;
mod refusals;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use weft_fetch::Fetcher;
use weft_model::{BlobRole, Checksum, Digest, ImageUrl, Problem};

use crate::reconcile::Reconciler;
use crate::transfers::Transfers;
use download::Download;

/// Downloads at the same time; each holds a connection and a few MiB of memory.
const PLACES: usize = 8;
/// How long a download goes on without anybody who asks for it: longer than a client takes to
/// connect again.
const ALONE: Duration = Duration::from_secs(30);

/// What is to be fetched.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) url: ImageUrl,
    pub(crate) checksum: Checksum,
    pub(crate) role: BlobRole,
}

/// How far a download is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) received_bytes: u64,
    pub(crate) total_bytes: Option<u64>,
    /// Why it is about to be tried again.
    pub(crate) trouble: Option<String>,
    /// How it ended: the blob.
    pub(crate) outcome: Option<Result<Digest, Problem>>,
}

/// The downloads of this agent.
#[derive(Debug)]
pub(crate) struct Fetches {
    fetcher: Fetcher,
    reconciler: Arc<Reconciler>,
    transfers: Arc<Transfers>,
    max_bytes: u64,
    places: Semaphore,
    running: Mutex<HashMap<Checksum, Running>>,
}

#[derive(Debug)]
struct Running {
    url: ImageUrl,
    progress: watch::Sender<Progress>,
}

/// One who asks for a download.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) progress: watch::Receiver<Progress>,
    /// Where it comes from: another URL than was asked for, where somebody else was first.
    pub(crate) url: ImageUrl,
}

impl Fetches {
    pub(crate) fn new(
        fetcher: Fetcher,
        reconciler: Arc<Reconciler>,
        transfers: Arc<Transfers>,
        max_bytes: u64,
    ) -> Arc<Self> {
        let (places, running) = (Semaphore::new(PLACES), Mutex::default());
        Arc::new(Self { fetcher, reconciler, transfers, max_bytes, places, running })
    }

    /// The largest disk, whether it is fetched or unpacked.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// What the list of digests at `url` says of `file`.
    ///
    /// # Errors
    /// A [`Problem`] at `url`.
    pub(crate) async fn find_checksum(
        &self,
        url: &ImageUrl,
        file: &str,
    ) -> Result<Checksum, Problem> {
        checksum::find(&self.fetcher, url, file).await
    }

    /// Follows the download of this digest; begins it where there is none.
    pub(crate) fn ask(self: &Arc<Self>, wanted: &Wanted) -> Asker {
        let mut running = self.running();
        if let Some(Running { url, progress }) = running.get(&wanted.checksum) {
            return Asker { progress: progress.subscribe(), url: url.clone() };
        }
        let (progress, receiver) = watch::channel(Progress::default());
        let entry = Running { url: wanted.url.clone(), progress: progress.clone() };
        running.insert(wanted.checksum, entry);
        tokio::spawn(self.clone().run(wanted.clone(), progress));
        Asker { progress: receiver, url: wanted.url.clone() }
    }

    async fn run(self: Arc<Self>, wanted: Wanted, progress: watch::Sender<Progress>) {
        let checksum = wanted.checksum;
        let ended = End { fetches: &self, checksum };
        let whole = async {
            // Never closed.
            let _place = self.places.acquire().await;
            Download::new(&self, wanted.clone(), &progress).run().await
        };
        // A step of the host under way is carried out to its end also where this is dropped.
        let outcome = tokio::select! {
            outcome = whole => outcome,
            () = alone(&progress) => {
                tracing::info!(blob.checksum = %checksum, url = %wanted.url, "nobody asks for the download any more: stopping it, its part is kept");
                return;
            }
        };
        match &outcome {
            Ok(digest) => {
                tracing::info!(blob.sha256 = %digest, url = %wanted.url, "fetched and verified")
            }
            Err(problem) => {
                tracing::warn!(blob.checksum = %checksum, url = %wanted.url, error = %problem, "fetching failed");
            }
        }
        // Whoever asks from now on begins anew; whoever asked before hears how it ended.
        drop(ended);
        progress.send_modify(|progress| progress.outcome = Some(outcome));
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Checksum, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a download off the list, also where it panics.
struct End<'a> {
    fetches: &'a Fetches,
    checksum: Checksum,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.fetches.running().remove(&self.checksum);
    }
}

/// Returns when nobody has been asking for [`ALONE`].
async fn alone(progress: &watch::Sender<Progress>) {
    loop {
        progress.closed().await;
        tokio::time::sleep(ALONE).await;
        if progress.is_closed() {
            return;
        }
    }
}
