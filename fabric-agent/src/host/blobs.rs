//! Images' blobs, which both hosts keep as files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use weft_images::{
    Backing, BlobError, BlobStore, BlobStoreOptions, DiskError, Limits, RootDisks, UnpackProgress,
};
use weft_model::{Digest, ImageBase, Reason, Sha512};
use weft_planner::Action;

use super::{BlobFacts, DiskFacts, HostError, UploadState};

/// The blobs of one host.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    pub(super) store: BlobStore,
    pub(super) disks: RootDisks,
}

pub(super) fn failed(what: String) -> impl FnOnce(BlobError) -> HostError {
    move |error| {
        let reason = match &error {
            error if error.is_out_of_space() => Reason::ResourceExhausted,
            // Another client sends the same blob, or the agent was restarted: begin again.
            BlobError::WrongOffset { .. } | BlobError::NoUpload { .. } | BlobError::Busy { .. } => {
                Reason::Unavailable
            }
            error if error.is_retryable() => Reason::Internal,
            _ => Reason::InvalidArgument,
        };
        let retryable = error.is_retryable();
        HostError::new(what, retryable).reason(reason).caused_by(error)
    }
}

impl Blobs {
    pub(crate) async fn open(dir: &Path) -> Result<Self, HostError> {
        let opened = BlobStore::open(dir, BlobStoreOptions::default()).await;
        let store = opened.map_err(failed(format!("open the images in {}", dir.display())))?;
        Ok(Self { store, disks: RootDisks::new("qemu-img", Limits::default()) })
    }

    pub(crate) fn path(&self, digest: &Digest) -> std::path::PathBuf {
        self.store.path(digest)
    }

    /// A blob as what lies below a disk.
    pub(crate) fn backing(&self, base: &ImageBase) -> Backing {
        Backing { path: self.path(&base.digest), format: base.format }
    }

    /// Carries out the steps that are about blobs.
    pub(crate) async fn apply(&self, action: &Action) -> Result<(), HostError> {
        match action {
            Action::BeginUpload { digest, size_bytes } => {
                let begun = self.store.begin(*digest, *size_bytes).await;
                begun.map(|_| ()).map_err(failed(format!("begin the upload of blob {digest}")))
            }
            Action::AppendUpload { digest, offset_bytes, data } => {
                let data = Bytes::copy_from_slice(data);
                let appended = self.store.append(*digest, *offset_bytes, data).await;
                appended.map(|_| ()).map_err(failed(format!("append to blob {digest}")))
            }
            Action::FinishUpload { digest, sha512, .. } => {
                let finished = match sha512 {
                    Some(sha512) => self.store.finish_by_sha512(*sha512).await,
                    None => self.store.finish(*digest).await,
                };
                finished.map(|_| ()).map_err(failed(format!("verify blob {digest}")))
            }
            Action::UnpackBlob { digest, max_bytes } => {
                let unpacked = self.store.unpack(*digest, *max_bytes).await;
                unpacked.map(|_| ()).map_err(failed("the image is refused".to_owned()))
            }
            Action::AbandonUpload { digest } => {
                let abandoned = self.store.abandon(*digest).await;
                abandoned.map(|_| ()).map_err(failed(format!("abandon the upload of {digest}")))
            }
            Action::RemoveBlob { digest } => {
                let removed = self.store.remove(*digest).await;
                removed.map(|_| ()).map_err(failed(format!("remove blob {digest}")))
            }
            Action::KeepCapture { snapshot_id, digest } => {
                let kept = self.store.keep_capture(snapshot_id.as_str(), *digest).await;
                kept.map_err(failed(format!("keep the image of {snapshot_id}")))
            }
            Action::AbandonCapture { name } => {
                let abandoned = self.store.abandon_capture(name).await;
                abandoned.map_err(failed(format!("abandon the image of {name}")))
            }
            other => Err(HostError::new(format!("{other:?} is not about blobs"), false)),
        }
    }

    pub(crate) async fn upload_state(&self, digest: &Digest) -> Result<UploadState, HostError> {
        let what = || format!("look for blob {digest}");
        if self.store.get(*digest).await.map_err(failed(what()))?.is_some() {
            return Ok(UploadState::Complete);
        }
        let received = self.store.received_bytes(*digest).await.map_err(failed(what()))?;
        Ok(UploadState::Partial { offset_bytes: received.unwrap_or(0) })
    }

    pub(crate) async fn stale_uploads(
        &self,
        unchanged_for: Duration,
    ) -> Result<Vec<Digest>, HostError> {
        let uploads = self.store.list_uploads().await;
        let uploads = uploads.map_err(failed("list the uploads".to_owned()))?;
        // A time in the future, after the clock was set, counts as just now.
        let is_stale = |upload: &weft_images::UploadInfo| {
            upload.modified.elapsed().is_ok_and(|age| age >= unchanged_for)
        };
        Ok(uploads.iter().filter(|upload| is_stale(upload)).map(|upload| upload.digest).collect())
    }

    pub(crate) fn unpacked(&self, digest: &Digest) -> Option<Digest> {
        self.store.unpacked(digest)
    }

    pub(crate) async fn by_sha512(&self, sha512: &Sha512) -> Result<Option<Digest>, HostError> {
        let found = self.store.by_sha512(*sha512).await;
        let found = found.map_err(failed(format!("look for the blob with SHA-512 {sha512}")))?;
        Ok(found.map(|blob| blob.digest))
    }

    pub(crate) fn unpack_progress(&self, digest: &Digest) -> Option<UnpackProgress> {
        self.store.unpack_progress(digest)
    }

    pub(crate) async fn inspect_disk(&self, digest: &Digest) -> Result<DiskFacts, HostError> {
        let inspected = self.store.inspect(*digest).await;
        let header = inspected.map_err(failed("the image is refused".to_owned()))?;
        Ok(DiskFacts {
            format: weft_images::disk_format(header.format),
            virtual_size_bytes: header.virtual_size_bytes,
        })
    }

    /// Checks what stands behind the header of a qcow2 image; instances' disks lie over it.
    pub(crate) async fn check_qcow2(&self, digest: &Digest) -> Result<(), HostError> {
        self.disks.check_qcow2(&self.path(digest)).await.map_err(|error| {
            let reason = match error {
                DiskError::Damaged { .. } => Reason::InvalidArgument,
                _ => Reason::Internal,
            };
            let retryable = error.is_retryable();
            HostError::new("the image is refused", retryable).reason(reason).caused_by(error)
        })
    }

    pub(crate) async fn inspect_kernel(&self, digest: &Digest) -> Result<(), HostError> {
        let inspected = self.store.inspect_kernel(*digest).await;
        inspected.map(|_| ()).map_err(failed("the kernel is refused".to_owned()))
    }

    pub(crate) async fn list(&self) -> Result<BTreeMap<Digest, BlobFacts>, HostError> {
        let listed = self.store.list().await.map_err(failed("list the blobs".to_owned()))?;
        let facts =
            |blob: weft_images::BlobInfo| (blob.digest, BlobFacts { size_bytes: blob.size_bytes });
        Ok(listed.into_iter().map(facts).collect())
    }
}
