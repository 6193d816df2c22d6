//! Unpacking: a blob that is a compressed disk becomes one that is a disk.
//!
//! It is streamed into one file beside the uploads, which a crash leaves at most once and the next
//! start removes, and judged on the way: by its first bytes, by its length, by the room that it takes.
//! Holes stay holes.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::BufReader;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use weft_image_format::{HEAD_BYTES, MAX_VIRTUAL_SIZE, detect};
use weft_image_unpack::{Compression, UnpackError, Unpacker};
use weft_model::Digest;

use super::{BlobError, Inner, read_head};
use crate::files::{FileError, remove, sync_dir};

/// Unpacked at once, in bytes.
const CHUNK: usize = 1 << 20;
/// What is written or left out as a whole, in bytes.
const HOLE: usize = 64 << 10;

/// How far an unpacking is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnpackProgress {
    /// Compressed bytes that were read.
    pub read_bytes: u64,
    /// All of them.
    pub total_bytes: u64,
}

/// The file that grows; removed where nobody takes it.
struct Growing<'a> {
    inner: &'a Inner,
    path: PathBuf,
    file: File,
    hash: Sha256,
    len: u64,
    kept: bool,
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // The error that led here is the one to tell; the next start tries again.
            let _ = remove(&self.path);
        }
    }
}

impl Inner {
    /// The disk that is packed in the blob `digest`, as a blob of its own; `None` where that is not
    /// compressed. At most `max_bytes` come out.
    pub(super) fn unpack(
        &self,
        digest: &Digest,
        max_bytes: u64,
    ) -> Result<Option<Digest>, BlobError> {
        let digest = *digest;
        let packed = self.info(&digest)?.ok_or(BlobError::NoBlob { digest })?;
        let read = |path: &Path| read_head(path).map_err(FileError::new("read", path));
        let Some(kind) = Compression::detect(&read(&packed.path)?) else { return Ok(None) };
        if let Some(known) = self.unpacked(&digest)
            && self.info(&known)?.is_some()
        {
            return Ok(Some(known));
        }
        let file = File::open(&packed.path).map_err(FileError::new("open", &packed.path))?;
        let unpacker = Unpacker::new(BufReader::with_capacity(CHUNK, file), kind);
        let growing = self.grow(&digest)?;
        let made = growing.fill(unpacker, &digest, packed.size_bytes, max_bytes);
        self.unpacking().remove(&digest);
        let made = made?;
        self.remember_unpacked(digest, made);
        Ok(Some(made))
    }

    fn grow(&self, digest: &Digest) -> Result<Growing<'_>, FileError> {
        let path = self.uploads.join(format!("{digest}{UNPACKED}"));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(FileError::new("create", &path))?;
        Ok(Growing { inner: self, path, file, hash: Sha256::new(), len: 0, kept: false })
    }

    /// Removes what a crash has left.
    pub(super) fn forget_unpackings(&self) -> Result<(), FileError> {
        for name in super::names(&self.uploads)? {
            if name.ends_with(UNPACKED) {
                remove(&self.uploads.join(name))?;
            }
        }
        Ok(())
    }
}

/// The end of the name of a file that grows.
const UNPACKED: &str = ".unpacked";

impl Growing<'_> {
    fn fill(
        mut self,
        mut unpacker: Unpacker<BufReader<File>>,
        digest: &Digest,
        total_bytes: u64,
        max_bytes: u64,
    ) -> Result<Digest, BlobError> {
        let broken = |source: UnpackError| BlobError::NotUnpacked { digest: *digest, source };
        let refused = |source| BlobError::NotAnImage { digest: *digest, source };
        let (mut chunk, mut filled) = (vec![0; CHUNK], 0);
        let mut head = Vec::new();
        loop {
            unpacker.fill(&mut chunk, &mut filled).map_err(broken)?;
            if self.len == 0 {
                head = chunk[..filled.min(HEAD_BYTES)].to_vec();
                detect(&head, MAX_VIRTUAL_SIZE).map_err(refused)?;
            }
            if filled == 0 {
                break;
            }
            if self.len + filled as u64 > max_bytes {
                return Err(BlobError::UnpacksTooLarge { digest: *digest, max_bytes });
            }
            self.append(&chunk[..filled])?;
            let progress = UnpackProgress { read_bytes: unpacker.bytes_read(), total_bytes };
            self.inner.unpacking().insert(*digest, progress);
        }
        detect(&head, self.len).map_err(refused)?;
        self.publish()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.hash.update(bytes);
        for piece in bytes.chunks(HOLE) {
            if piece.iter().any(|byte| *byte != 0) {
                self.inner.check_space(piece.len() as u64)?;
                self.file
                    .write_all_at(piece, self.len)
                    .map_err(FileError::new("write", &self.path))?;
            }
            self.len += piece.len() as u64;
        }
        weft_crash_points::point("blob.unpack.written");
        Ok(())
    }

    fn publish(mut self) -> Result<Digest, BlobError> {
        let digest = Digest::from_bytes(std::mem::take(&mut self.hash).finalize().into());
        // Before the lock is taken: writing it out may take long.
        let sealed = self
            .file
            .set_len(self.len)
            .and_then(|()| self.file.set_permissions(Permissions::from_mode(0o444)))
            .and_then(|()| self.file.sync_all());
        sealed.map_err(FileError::new("seal", &self.path))?;
        let inner = self.inner;
        inner.under(&digest, || self.appear(&digest))?;
        Ok(digest)
    }

    /// Makes it the blob, whose lock is held, unless that is there.
    fn appear(&mut self, digest: &Digest) -> Result<(), FileError> {
        if self.inner.info(digest)?.is_some() {
            return Ok(());
        }
        weft_crash_points::point("blob.unpack.before_rename");
        let blob = self.inner.blob_path(digest);
        fs::rename(&self.path, &blob).map_err(FileError::new("rename to", &blob))?;
        self.kept = true;
        weft_crash_points::point("blob.unpack.after_rename");
        sync_dir(&self.inner.blobs)?;
        sync_dir(&self.inner.uploads)
    }
}

#[cfg(test)]
mod tests;
