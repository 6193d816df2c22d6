//! Blobs that are made here and not sent: what they are called is known when they are there.
//!
//! ```text
//!   uploads/NAME.capture ─hashed─▶ blobs/sha256/<digest>
//! ```

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use weft_model::Digest;

use super::{BlobError, BlobStore, metadata, names};
use crate::files::{FileError, blocking, remove, sync_dir};

const SUFFIX: &str = ".capture";

impl BlobStore {
    /// Where a blob that is being made is kept; `name` is a word.
    pub fn capture_path(&self, name: &str) -> PathBuf {
        self.inner.uploads.join(format!("{name}{SUFFIX}"))
    }

    /// Bytes that may be used without touching the reserve.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn room_bytes(&self) -> Result<u64, BlobError> {
        let this = self.clone();
        blocking(move || this.inner.room()).await
    }

    /// Makes a file that was made durable, and read-only for everybody: it is whole now.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn seal_capture(&self, name: &str) -> Result<(), BlobError> {
        let path = self.capture_path(name);
        let sealed = move || {
            let seal = || -> io::Result<()> {
                let file = File::open(&path)?;
                if nix::unistd::geteuid().is_root() {
                    std::os::unix::fs::fchown(&file, Some(0), Some(0))?;
                }
                file.set_permissions(Permissions::from_mode(0o444))?;
                file.sync_all()
            };
            seal().map_err(FileError::new("seal", &path))
        };
        blocking(sealed).await?;
        weft_crash_points::point("blob.capture.sealed");
        Ok(())
    }

    /// What a blob that was made will be called.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn captured(&self, name: &str) -> Result<Digest, BlobError> {
        let path = self.capture_path(name);
        let digest = blocking(move || hash(&path).map_err(FileError::new("read", &path)));
        Ok(digest.await?)
    }

    /// Makes it a blob, once it is sealed. It is what [`Self::captured`] has said; once more is success.
    ///
    /// # Errors
    /// [`BlobError::NoBlob`] where there is nothing of the kind.
    pub async fn keep_capture(&self, name: &str, digest: Digest) -> Result<(), BlobError> {
        let path = self.capture_path(name);
        self.locked(digest, move |inner, _slot| {
            let blob = inner.blob_path(&digest);
            if metadata(&blob)?.is_some() {
                remove(&path)?; // An equal one was there already.
                return Ok(());
            }
            if metadata(&path)?.is_none() {
                return Err(BlobError::NoBlob { digest });
            }
            fs::rename(&path, &blob).map_err(FileError::new("rename to", &blob))?;
            weft_crash_points::point("blob.capture.renamed");
            sync_dir(&inner.blobs)?;
            Ok(sync_dir(&inner.uploads)?)
        })
        .await
    }

    /// Removes what was begun; nothing there is success.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn abandon_capture(&self, name: &str) -> Result<(), BlobError> {
        let path = self.capture_path(name);
        Ok(blocking(move || remove(&path).map(drop)).await?)
    }

    /// The names of what was begun, in order.
    ///
    /// # Errors
    /// [`BlobError::File`].
    pub async fn list_captures(&self) -> Result<Vec<String>, BlobError> {
        let this = self.clone();
        let listed = blocking(move || names(&this.inner.uploads)).await?;
        let name = |file: String| file.strip_suffix(SUFFIX).map(str::to_owned);
        Ok(listed.into_iter().filter_map(name).collect())
    }
}

fn hash(path: &std::path::Path) -> io::Result<Digest> {
    let (mut file, mut hash, mut chunk) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(Digest::from_bytes(hash.finalize().into())),
            Ok(read) => hash.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlobStoreOptions;

    #[tokio::test]
    async fn what_was_made_is_called_after_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path(), BlobStoreOptions::default()).await.unwrap();
        for name in ["snap-1", "snap-2"] {
            fs::write(store.capture_path(name), "a disk").unwrap();
        }
        assert_eq!(store.list_captures().await.unwrap(), ["snap-1", "snap-2"]);
        let digest = store.captured("snap-1").await.unwrap();
        assert_eq!(digest, Digest::from_bytes(Sha256::digest("a disk").into()));
        store.seal_capture("snap-1").await.unwrap();
        store.keep_capture("snap-1", digest).await.unwrap();
        // Again after a crash, and another one of the same content.
        store.keep_capture("snap-1", digest).await.unwrap();
        store.keep_capture("snap-2", digest).await.unwrap();
        let blob = store.get(digest).await.unwrap().unwrap();
        assert_eq!(fs::read(&blob.path).unwrap(), b"a disk");
        assert_eq!(fs::metadata(&blob.path).unwrap().permissions().mode() & 0o777, 0o444);
        assert!(store.list_captures().await.unwrap().is_empty());
        assert!(store.room_bytes().await.unwrap() > 0);
        let other = Digest::from_bytes([1; 32]);
        let missing = store.keep_capture("snap-3", other).await.unwrap_err();
        assert!(matches!(missing, BlobError::NoBlob { .. }), "{missing:?}");
    }
}
