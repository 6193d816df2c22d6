//! Content-addressed blobs, and uploads that survive a broken connection or a restart.
//!
//! Everything about one digest happens under that digest's lock, in blocking work that runs to its
//! end: a caller that goes away leaves no half-done step.

mod captured;
mod error;
mod unpack;
mod upload;

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use nix::sys::statvfs::statvfs;
use tokio::sync::Mutex as AsyncMutex;
use weft_image_format::{HEAD_BYTES, ImageHeader, KernelHeader};
use weft_model::{Checksum, Digest, Sha512};

use crate::files::{FileError, blocking, create_dir, remove, sync_dir};

pub use error::BlobError;
pub use unpack::UnpackProgress;
use upload::Upload;

/// What may be chosen for a [`BlobStore`].
#[derive(Clone, Copy, Debug)]
pub struct BlobStoreOptions {
    /// Free space that no upload may use, in bytes: running guests' disks grow in it.
    pub reserve_bytes: u64,
}

impl Default for BlobStoreOptions {
    fn default() -> Self {
        Self { reserve_bytes: 256 << 20 }
    }
}

/// A whole, verified blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name and content.
    pub digest: Digest,
    /// Its length, in bytes.
    pub size_bytes: u64,
    /// Where it is. Never write to it.
    pub path: PathBuf,
}

/// Where an upload goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The blob is there already: nothing to send.
    Complete(BlobInfo),
    /// Send what comes from here on.
    Resume {
        /// Bytes that are there already.
        offset: u64,
    },
}

/// An upload that was begun and not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInfo {
    /// What it is to become.
    pub digest: Digest,
    /// What has arrived, in bytes.
    pub received_bytes: u64,
    /// When something last arrived.
    pub modified: SystemTime,
}

/// The blobs of one host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlobStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    blobs: PathBuf,
    uploads: PathBuf,
    options: BlobStoreOptions,
    /// One lock for each digest that somebody works on or has an upload under way.
    locks: Mutex<HashMap<Digest, Slot>>,
    /// How far those are that are being unpacked.
    unpacking: Mutex<HashMap<Digest, UnpackProgress>>,
    /// What came out of those that were, as far as this process knows.
    unpacked: Mutex<HashMap<Digest, Digest>>,
    /// Blobs that came by their SHA-512, as far as this process knows.
    by_sha512: Mutex<HashMap<Sha512, Digest>>,
}

/// The upload that is under way, if it has been begun since the start.
type Slot = Arc<AsyncMutex<Option<Upload>>>;

impl BlobStore {
    /// The blobs under `dir`, which is made where it does not exist.
    ///
    /// # Errors
    /// [`BlobError::File`] where the directories cannot be made.
    pub async fn open(dir: &Path, options: BlobStoreOptions) -> Result<Self, BlobError> {
        let (blobs, uploads) = (dir.join("blobs").join("sha256"), dir.join("uploads"));
        let inner = Inner {
            blobs,
            uploads,
            options,
            locks: Mutex::default(),
            unpacking: Mutex::default(),
            unpacked: Mutex::default(),
            by_sha512: Mutex::default(),
        };
        let store = Self { inner: Arc::new(inner) };
        let inner = Arc::clone(&store.inner);
        blocking(move || {
            create_dir(&inner.blobs)?;
            create_dir(&inner.uploads)?;
            // Half an image is nobody's business; whole ones are opened by the agent for guests.
            for dir in [&inner.blobs, &inner.uploads] {
                fs::set_permissions(dir, Permissions::from_mode(0o700))
                    .map_err(FileError::new("set the mode of", dir))?;
            }
            inner.forget_unpackings()
        })
        .await?;
        Ok(store)
    }

    /// Unpacks the blob `digest`, where it is a compressed disk, into a blob of its own, of at most
    /// `max_bytes` bytes: its digest, or `None` where there is nothing to unpack. What was unpacked
    /// already is there at once.
    ///
    /// # Errors
    /// [`BlobError::NotUnpacked`], [`BlobError::NotAnImage`], [`BlobError::UnpacksTooLarge`],
    /// [`BlobError::OutOfSpace`]; nothing is left then.
    pub async fn unpack(
        &self,
        digest: Digest,
        max_bytes: u64,
    ) -> Result<Option<Digest>, BlobError> {
        self.locked(digest, move |inner, _slot| inner.unpack(&digest, max_bytes)).await
    }

    /// What came out of the blob `digest`, where this process knows of an unpacking. It may be gone.
    pub fn unpacked(&self, digest: &Digest) -> Option<Digest> {
        self.inner.unpacked(digest)
    }

    /// How far the unpacking of the blob `digest` is, while there is one.
    pub fn unpack_progress(&self, digest: &Digest) -> Option<UnpackProgress> {
        self.inner.unpacking().get(digest).copied()
    }

    /// Where the blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.inner.blob_path(digest)
    }

    /// Begins or takes up the upload of a blob of `size_bytes` bytes; `None` where the sender does
    /// not know: then whatever has come by [`Self::finish`] is all of it.
    ///
    /// # Errors
    /// [`BlobError::OutOfSpace`] where the rest does not fit.
    pub async fn begin(
        &self,
        digest: Digest,
        size_bytes: impl Into<Option<u64>>,
    ) -> Result<Begin, BlobError> {
        let size_bytes = size_bytes.into();
        self.locked(digest, move |inner, slot| {
            if let Some(info) = inner.info(&digest)? {
                return Ok(Begin::Complete(info));
            }
            let part = inner.part_path(&digest);
            let mut upload = match slot.take() {
                Some(upload) => upload,
                None => Upload::open(&part)?,
            };
            weft_crash_points::point("blob.begin.opened");
            upload.expect(size_bytes)?;
            inner.check_space(size_bytes.map_or(0, |size| size - upload.len()))?;
            let offset = upload.len();
            *slot = Some(upload);
            Ok(Begin::Resume { offset })
        })
        .await
    }

    /// Adds `bytes` at `offset`, which must be where the upload is, and returns where it is then.
    ///
    /// # Errors
    /// [`BlobError::WrongOffset`] names the right offset; [`BlobError::NoUpload`] asks for
    /// [`begin`](Self::begin); [`BlobError::TooLong`], [`BlobError::OutOfSpace`].
    pub async fn append(
        &self,
        digest: Digest,
        offset: u64,
        bytes: Bytes,
    ) -> Result<u64, BlobError> {
        self.locked(digest, move |inner, slot| {
            let Some(upload) = slot else {
                // Another sender of the same blob may have finished it.
                return match inner.info(&digest)? {
                    Some(info) => Err(BlobError::WrongOffset { offset, expected: info.size_bytes }),
                    None => Err(BlobError::NoUpload { digest }),
                };
            };
            inner.check_space(bytes.len() as u64)?;
            let reached = upload.append(offset, &bytes)?;
            weft_crash_points::point("blob.append.written");
            Ok(reached)
        })
        .await
    }

    /// Verifies what was uploaded and makes it a blob.
    ///
    /// # Errors
    /// [`BlobError::Incomplete`], and [`BlobError::DigestMismatch`], after which the upload is gone.
    pub async fn finish(&self, digest: Digest) -> Result<BlobInfo, BlobError> {
        self.locked(digest, move |inner, slot| {
            if let Some(info) = inner.info(&digest)? {
                return Ok(info);
            }
            let upload = slot.as_ref().ok_or(BlobError::NoUpload { digest })?;
            upload.check_complete(digest)?;
            let actual = upload.digest();
            weft_crash_points::point("blob.finish.hashed");
            if actual != digest {
                *slot = None;
                remove(&inner.part_path(&digest))?;
                let (expected, actual) = (checksum(digest), checksum(actual));
                return Err(BlobError::DigestMismatch { expected, actual });
            }
            upload.seal().map_err(FileError::new("seal", &inner.part_path(&digest)))?;
            inner.publish(&digest, &digest)?;
            *slot = None;
            inner.info(&digest)?.ok_or(BlobError::NoBlob { digest })
        })
        .await
    }

    /// Verifies what was uploaded as the stand-in of `sha512` and makes it a blob: its digest is seen
    /// here for the first time.
    ///
    /// # Errors
    /// As of [`Self::finish`].
    pub async fn finish_by_sha512(&self, sha512: Sha512) -> Result<BlobInfo, BlobError> {
        let part = Checksum::from(sha512).stand_in();
        self.locked(part, move |inner, slot| {
            if let Some(info) = inner.by_sha512(&sha512)? {
                return Ok(info);
            }
            let upload = slot.as_ref().ok_or(BlobError::NoUpload { digest: part })?;
            upload.check_complete(part)?;
            let actual = upload.sha512()?;
            weft_crash_points::point("blob.finish.hashed");
            if actual != sha512 {
                *slot = None;
                remove(&inner.part_path(&part))?;
                let (expected, actual) = (checksum(sha512), checksum(actual));
                return Err(BlobError::DigestMismatch { expected, actual });
            }
            let digest = upload.digest();
            upload.seal().map_err(FileError::new("seal", &inner.part_path(&part)))?;
            inner.under(&digest, || match inner.info(&digest)? {
                // It came under its own name before.
                Some(_) => remove(&inner.part_path(&part)).map(drop),
                None => inner.publish(&part, &digest),
            })?;
            *slot = None;
            inner.remember_sha512(sha512, digest);
            inner.info(&digest)?.ok_or(BlobError::NoBlob { digest })
        })
        .await
    }

    /// The blob that came by this SHA-512, where it is still there.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn by_sha512(&self, sha512: Sha512) -> Result<Option<BlobInfo>, BlobError> {
        let inner = Arc::clone(&self.inner);
        Ok(blocking(move || inner.by_sha512(&sha512)).await?)
    }

    /// Gives an upload up; false where there is none.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn abandon(&self, digest: Digest) -> Result<bool, BlobError> {
        self.locked(digest, move |inner, slot| {
            *slot = None;
            Ok(remove(&inner.part_path(&digest))?)
        })
        .await
    }

    /// The blob, if it is there.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn get(&self, digest: Digest) -> Result<Option<BlobInfo>, BlobError> {
        let inner = Arc::clone(&self.inner);
        Ok(blocking(move || inner.info(&digest)).await?)
    }

    /// Every blob, in the order of their digests.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn list(&self) -> Result<Vec<BlobInfo>, BlobError> {
        let inner = Arc::clone(&self.inner);
        let blobs = blocking(move || {
            let mut blobs = Vec::new();
            for name in names(&inner.blobs)? {
                if let Ok(digest) = name.parse() {
                    blobs.extend(inner.info(&digest)?); // It may have gone meanwhile.
                }
            }
            Ok::<_, FileError>(blobs)
        });
        Ok(blobs.await?)
    }

    /// What has arrived of an unfinished upload, also from before a restart, in bytes; `None` where
    /// there is none.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn received_bytes(&self, digest: Digest) -> Result<Option<u64>, BlobError> {
        let part = self.inner.part_path(&digest);
        Ok(blocking(move || metadata(&part)).await?.map(|found| found.len()))
    }

    /// Every unfinished upload, also from before a restart, in the order of their digests.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn list_uploads(&self) -> Result<Vec<UploadInfo>, BlobError> {
        let inner = Arc::clone(&self.inner);
        let uploads = blocking(move || {
            let mut uploads = Vec::new();
            for name in names(&inner.uploads)? {
                let Some(digest) = name.strip_suffix(".part").and_then(|hex| hex.parse().ok())
                else {
                    continue;
                };
                let path = inner.part_path(&digest);
                let Some(metadata) = metadata(&path)? else { continue };
                let modified = metadata.modified().map_err(FileError::new("read", &path))?;
                uploads.push(UploadInfo { digest, received_bytes: metadata.len(), modified });
            }
            Ok::<_, FileError>(uploads)
        });
        Ok(uploads.await?)
    }

    /// Removes the blob; false where there is none. Whether disks still need it is the caller's to
    /// know.
    ///
    /// # Errors
    /// [`BlobError::Busy`] where somebody works on it, which may take long: it is not waited for.
    /// [`BlobError::File`].
    pub async fn remove(&self, digest: Digest) -> Result<bool, BlobError> {
        let slot = self.inner.slot(&digest);
        let Ok(slot) = slot.try_lock_owned() else { return Err(BlobError::Busy { digest }) };
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _slot = slot;
            let was_there = remove(&inner.blob_path(&digest))?;
            weft_crash_points::point("blob.remove.removed");
            sync_dir(&inner.blobs)?;
            Ok(was_there)
        })
        .await
    }

    /// What the blob is as a disk image.
    ///
    /// # Errors
    /// [`BlobError::NotAnImage`] says why it cannot be one, [`BlobError::NoBlob`].
    pub async fn inspect(&self, digest: Digest) -> Result<ImageHeader, BlobError> {
        let (head, size_bytes) = self.head(digest).await?;
        weft_image_format::detect(&head, size_bytes)
            .map_err(|source| BlobError::NotAnImage { digest, source })
    }

    /// What the blob is as a kernel.
    ///
    /// # Errors
    /// [`BlobError::NotAKernel`] says why it cannot be one, [`BlobError::NoBlob`].
    pub async fn inspect_kernel(&self, digest: Digest) -> Result<KernelHeader, BlobError> {
        let (head, _) = self.head(digest).await?;
        weft_image_format::detect_kernel(&head)
            .map_err(|source| BlobError::NotAKernel { digest, source })
    }

    async fn head(&self, digest: Digest) -> Result<(Vec<u8>, u64), BlobError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let info = inner.info(&digest)?.ok_or(BlobError::NoBlob { digest })?;
            let head = read_head(&info.path).map_err(FileError::new("read", &info.path))?;
            Ok((head, info.size_bytes))
        })
        .await
    }

    async fn locked<T: Send + 'static>(
        &self,
        digest: Digest,
        work: impl FnOnce(&Inner, &mut Option<Upload>) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let mut slot = self.inner.slot(&digest).lock_owned().await;
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner, &mut slot)).await
    }
}

impl Inner {
    /// The lock of a digest.
    fn slot(&self, digest: &Digest) -> Slot {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Only those that nobody else has or waits for, or two could exist for one digest.
        locks.retain(|_, slot| Arc::get_mut(slot).is_none_or(|idle| idle.get_mut().is_some()));
        Arc::clone(locks.entry(*digest).or_default())
    }

    /// Does `work`, which makes the blob `digest`, under that digest's lock, from blocking work that
    /// has the lock of what it is made from. Nobody waits in a circle: what a blob is made from has a
    /// digest that its own depends on.
    fn under<T>(
        &self,
        digest: &Digest,
        work: impl FnOnce() -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        let slot = self.slot(digest);
        let _locked = slot.blocking_lock();
        work()
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.to_string())
    }

    fn unpacking(&self) -> MutexGuard<'_, HashMap<Digest, UnpackProgress>> {
        self.unpacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpacked(&self, digest: &Digest) -> Option<Digest> {
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied()
    }

    fn remember_unpacked(&self, digest: Digest, disk: Digest) {
        let mut known = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(digest, disk);
    }

    fn by_sha512(&self, sha512: &Sha512) -> Result<Option<BlobInfo>, FileError> {
        let known = self.by_sha512.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(digest) = known.get(sha512).copied() else { return Ok(None) };
        drop(known);
        self.info(&digest)
    }

    fn remember_sha512(&self, sha512: Sha512, digest: Digest) {
        let mut known = self.by_sha512.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(sha512, digest);
    }

    fn part_path(&self, digest: &Digest) -> PathBuf {
        self.uploads.join(format!("{digest}.part"))
    }

    fn info(&self, digest: &Digest) -> Result<Option<BlobInfo>, FileError> {
        let path = self.blob_path(digest);
        let found = metadata(&path)?;
        Ok(found.map(|metadata| BlobInfo { digest: *digest, size_bytes: metadata.len(), path }))
    }

    /// That `needed` bytes more leave the reserve alone.
    fn check_space(&self, needed: u64) -> Result<(), BlobError> {
        let free = self.room()?;
        if needed > free {
            return Err(BlobError::OutOfSpace { needed, free });
        }
        Ok(())
    }

    /// Bytes beside the reserve.
    fn room(&self) -> Result<u64, BlobError> {
        let stat = statvfs(&self.uploads)
            .map_err(|errno| FileError::new("measure", &self.uploads)(errno.into()))?;
        let available = stat.blocks_available().saturating_mul(stat.fragment_size());
        Ok(available.saturating_sub(self.options.reserve_bytes))
    }

    /// Makes the part that is called `part`, which is sealed, the blob `digest`; its lock is held.
    fn publish(&self, part: &Digest, digest: &Digest) -> Result<(), FileError> {
        let (part, blob) = (self.part_path(part), self.blob_path(digest));
        weft_crash_points::point("blob.publish.before_rename");
        fs::rename(&part, &blob).map_err(FileError::new("rename to", &blob))?;
        weft_crash_points::point("blob.publish.after_rename");
        sync_dir(&self.blobs)?;
        sync_dir(&self.uploads)
    }
}

/// For an error, which is small.
fn checksum(of: impl Into<Checksum>) -> Box<Checksum> {
    Box::new(of.into())
}

fn metadata(path: &Path) -> Result<Option<fs::Metadata>, FileError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(_not_ours) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::new("read", path)(source)),
    }
}

fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    let read = || {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string()); // What is not text is not ours.
        }
        names.sort();
        Ok(names)
    };
    read().map_err(FileError::new("list", dir))
}

pub(crate) fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut head = vec![0; HEAD_BYTES];
    let mut len = 0;
    while len < head.len() {
        match file.read_at(&mut head[len..], len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    head.truncate(len);
    Ok(head)
}

#[cfg(test)]
mod tests;
