//! One upload: its file, and the hash of what is in it.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use weft_model::{Digest, Sha512};

use crate::files::FileError;

use super::BlobError;

/// Read at once while a hash is recovered, in bytes.
const CHUNK: usize = 1 << 20;

/// Invariant: `hash` is that of the first `len` bytes of the file, which has no others.
pub(super) struct Upload {
    path: PathBuf,
    file: File,
    hash: Sha256,
    len: u64,
    /// `None`: not announced.
    size_bytes: Option<u64>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({} of {:?} bytes)", self.len, self.size_bytes)
    }
}

impl Upload {
    /// Takes up what is in `path`, by reading it again, or begins it.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(FileError::new("open", path))?;
        let mut upload =
            Self { path: path.to_owned(), file, hash: Sha256::new(), len: 0, size_bytes: None };
        upload.recover().map_err(FileError::new("read", path))?;
        Ok(upload)
    }

    fn recover(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.file.read_at(&mut chunk, self.len) {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    self.hash.update(&chunk[..read]);
                    self.len += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Announces the whole size. What is there and longer cannot be its start.
    pub(super) fn expect(&mut self, size_bytes: Option<u64>) -> Result<(), FileError> {
        if size_bytes.is_some_and(|size| self.len > size) {
            self.file.set_len(0).map_err(FileError::new("empty", &self.path))?;
            (self.hash, self.len) = (Sha256::new(), 0);
        }
        self.size_bytes = size_bytes;
        Ok(())
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, BlobError> {
        if offset != self.len {
            return Err(BlobError::WrongOffset { offset, expected: self.len });
        }
        if let Some(size_bytes) = self.size_bytes
            && bytes.len() as u64 > size_bytes - self.len
        {
            return Err(BlobError::TooLong { size_bytes });
        }
        if let Err(source) = self.file.write_all_at(bytes, offset) {
            // A part may be there: the file must not be longer than what was hashed.
            self.file.set_len(self.len).map_err(FileError::new("shorten", &self.path))?;
            return Err(FileError::new("write", &self.path)(source).into());
        }
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(self.len)
    }

    pub(super) fn check_complete(&self, digest: Digest) -> Result<(), BlobError> {
        let (received_bytes, size_bytes) = (self.len, self.size_bytes.unwrap_or(self.len));
        if received_bytes != size_bytes {
            return Err(BlobError::Incomplete { digest, received_bytes, size_bytes });
        }
        Ok(())
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::from_bytes(self.hash.clone().finalize().into())
    }

    /// What few publishers give: worked out when it is asked for, by reading the file once more.
    pub(super) fn sha512(&self) -> Result<Sha512, FileError> {
        let mut hash = sha2::Sha512::new();
        let (mut chunk, mut at) = (vec![0; CHUNK], 0);
        loop {
            match self.file.read_at(&mut chunk, at) {
                Ok(0) => return Ok(Sha512::from_bytes(hash.finalize().into())),
                Ok(read) => {
                    hash.update(&chunk[..read]);
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(FileError::new("read", &self.path)(source)),
            }
        }
    }

    /// Makes it durable, and read-only for everybody.
    pub(super) fn seal(&self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o444))?;
        self.file.sync_all()
    }
}
