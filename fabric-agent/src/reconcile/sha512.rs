//! Blobs that came by their SHA-512. No blob goes by it, so which it is is written down, for as long as
//! there is the blob: the same file is not fetched again, also by another agent process.

use weft_model::{Digest, Problem, Sha512};
use weft_store::Txn;

use super::Reconciler;
use crate::repo::{SHA512, sha512_key, store_problem};

impl Reconciler {
    /// The blob with this SHA-512, if one is there.
    ///
    /// # Errors
    /// The store's, and the host's.
    pub(crate) async fn blob_by_sha512(&self, sha512: &Sha512) -> Result<Option<Digest>, Problem> {
        // One that came just now may not be written down yet.
        let just_now = self.host.blob_by_sha512(sha512).await;
        if let Some(blob) = just_now.map_err(|error| error.problem())? {
            return Ok(Some(blob));
        }
        let Some(text) = self.repo.read_text(&sha512_key(sha512)).await? else { return Ok(None) };
        let Ok(blob) = text.parse::<Digest>() else { return Ok(None) };
        let present = self.host.blobs().await.map_err(|error| error.problem())?;
        Ok(present.contains_key(&blob).then_some(blob))
    }

    /// Writes down which blob has this SHA-512. Where that fails the file may be fetched once more.
    pub(crate) async fn remember_sha512(&self, sha512: &Sha512, blob: Digest) {
        let txn = Txn::new().keeping_reserve().put(sha512_key(sha512), blob.to_string());
        if let Err(problem) = self.repo.commit(txn).await {
            tracing::warn!(blob.sha256 = %blob, error = %problem, "which SHA-512 a blob has was not written down");
        }
    }

    /// Forgets which SHA-512 a blob has that is about to go.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn forget_sha512(&self, blob: &Digest) -> Result<(), Problem> {
        let listing = self.repo.store().list(SHA512).await.map_err(store_problem)?;
        let text = blob.to_string();
        let of_it = listing.items.into_iter().filter(|item| *item.value == *text.as_bytes());
        let txn = of_it.fold(Txn::new(), |txn, item| txn.delete(item.key));
        if txn.then.is_empty() {
            return Ok(());
        }
        self.repo.commit(txn).await.map(drop)
    }
}
