//! Where states lie: one file per version, readable by the agent's user alone.
//!
//! ```text
//! tfstates/.incoming/XXXXXX     what is being received
//! tfstates/NAME/NUMBER.tfstate  a version that the store knows, or may know in a moment
//! tfstates/NAME/removed         there while the state is being removed with all its versions
//! ```
//!
//! A file appears under its number whole and durable, before the store is told of it. What becomes of
//! those that the store does not know is `sweep.rs`'s to say, at the next start.

use std::fmt;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufReader, ErrorKind, Read as _, Seek as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use weft_crash_points as crash_points;
use weft_model::{Problem, Reason};

use super::StateName;
use super::judge::judge;
use super::record::{Facts, Version};

const INCOMING: &str = ".incoming";
pub(super) const SUFFIX: &str = ".tfstate";
pub(super) const REMOVAL: &str = "removed";

/// The folder of all states.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

/// A state that is being received. Dropped, it is gone.
pub(crate) struct Incoming {
    staged: NamedTempFile,
    file: tokio::fs::File,
    bytes: u64,
    sha256: Sha256,
    md5: md5::Context,
}

/// A state that is there in full, durable, and was found to be one; not yet a version.
#[derive(Debug)]
pub(crate) struct Staged {
    file: NamedTempFile,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) md5: String,
    pub(crate) facts: Facts,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Folder {
    /// As it is, to be looked at.
    pub(crate) fn at(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// Made where it is not there, emptied of what was being received.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let this = Self::at(dir);
        match fs::remove_dir_all(this.incoming()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => DirBuilder::new().recursive(true).mode(0o700).create(this.incoming())?,
        }
        // Also what an agent made that died before it could.
        sync(dir)?;
        if let Some(parent) = dir.parent() {
            sync(parent)?;
        }
        Ok(this)
    }

    fn incoming(&self) -> PathBuf {
        self.0.join(INCOMING)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    fn of(&self, name: &StateName) -> PathBuf {
        self.0.join(name.as_str())
    }

    pub(super) fn path(&self, name: &StateName, number: u64) -> PathBuf {
        self.of(name).join(file_of(number))
    }

    /// Room for one that comes.
    pub(crate) fn receive(&self) -> Result<Incoming, Problem> {
        let made = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(self.incoming())
            .and_then(|staged| Ok((staged.reopen()?, staged)));
        let (file, staged) = made.map_err(|error| failed("receive a state", &error))?;
        let file = tokio::fs::File::from_std(file);
        Ok(Incoming { staged, file, bytes: 0, sha256: Sha256::new(), md5: md5::Context::new() })
    }

    /// Makes `staged` the file of a version, durable when it returns. One that is there of this
    /// number is nobody's.
    pub(crate) fn place(&self, name: &StateName, number: u64, staged: Staged) -> io::Result<()> {
        let dir = self.of(name);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => sync(&self.0)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        crash_points::point("tfstate.place.before");
        staged.file.persist(self.path(name, number)).map_err(|error| error.error)?;
        crash_points::point("tfstate.place.renamed");
        sync(&dir)
    }

    /// The file of a version, if it is what was stored.
    ///
    /// # Errors
    /// It is gone or was changed: no part of it is to be taken for the state.
    pub(crate) fn open_version(
        &self,
        name: &StateName,
        version: &Version,
    ) -> Result<File, Problem> {
        let number = version.number;
        let damaged = |evidence: String| {
            tracing::error!(state = %name, version = number, evidence, "a state's file is damaged");
            let message = format!("version {number} of the state {name} is damaged");
            Problem::new(Reason::Internal, message).evidence(evidence).remedy(format!(
                "weft state restore {name} --version N takes an older one ({name} has those that \
                 weft state versions {name} lists)"
            ))
        };
        let path = self.path(name, number);
        let checked = File::open(&path).and_then(|mut file| {
            let mut sha256 = Sha256::new();
            io::copy(&mut file, &mut sha256)?;
            file.rewind()?;
            Ok((file, hex::encode(sha256.finalize())))
        });
        match checked {
            Ok((file, sha256)) if sha256 == version.sha256 => Ok(file),
            Ok((_, sha256)) => {
                let (path, stored) = (path.display(), &version.sha256);
                Err(damaged(format!("{path} has the SHA-256 {sha256}, stored was {stored}")))
            }
            Err(error) => Err(damaged(format!("{}: {error}", path.display()))),
        }
    }

    /// The same, as a whole. States are bounded.
    pub(crate) fn read_version(
        &self,
        name: &StateName,
        version: &Version,
    ) -> Result<String, Problem> {
        let mut content = String::with_capacity(usize::try_from(version.bytes).unwrap_or_default());
        let mut file = self.open_version(name, version)?;
        file.read_to_string(&mut content).map_err(|error| failed("read a state", &error))?;
        Ok(content)
    }

    /// Removes versions that the store has forgotten. What stays is told and goes at the next start.
    pub(crate) fn remove(&self, name: &StateName, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            tolerate(fs::remove_file(self.path(name, number)), &self.path(name, number));
        }
    }

    /// Says that all of a state goes, durable when it returns: found without a record, it was not lost.
    /// A full disk keeps nobody from removing.
    pub(crate) fn begin_removal(&self, name: &StateName) {
        let dir = self.of(name);
        match File::create(dir.join(REMOVAL)).and_then(|_| sync(&dir)) {
            // It has a lock alone.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(
                %error, state = %name,
                "that a state is being removed cannot be written down: if the agent dies now, it is put aside"
            ),
            Ok(()) => {}
        }
    }

    /// It stays after all.
    pub(crate) fn take_back_removal(&self, name: &StateName) {
        let path = self.of(name).join(REMOVAL);
        tolerate(fs::remove_file(&path), &path);
    }

    /// Removes all of a state that the store has forgotten.
    pub(crate) fn remove_all(&self, name: &StateName) {
        tolerate(fs::remove_dir_all(self.of(name)), &self.of(name));
    }
}

impl Incoming {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) async fn write(&mut self, chunk: &[u8]) -> Result<(), Problem> {
        self.sha256.update(chunk);
        self.md5.consume(chunk);
        self.bytes += chunk.len() as u64;
        self.file.write_all(chunk).await.map_err(|error| failed("receive a state", &error))
    }

    /// All has come: makes it durable and judges it.
    pub(crate) async fn finish(mut self) -> Result<Staged, Problem> {
        let synced = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        synced.await.map_err(|error| failed("receive a state", &error))?;
        let staged = self.staged;
        let judged = tokio::task::spawn_blocking(move || {
            let file = staged.reopen().map_err(|error| failed("read a state", &error))?;
            judge(BufReader::new(file)).map(|facts| (facts, staged))
        });
        let (facts, file) =
            judged.await.map_err(|error| failed("read a state", &io::Error::other(error)))??;
        Ok(Staged {
            file,
            bytes: self.bytes,
            sha256: hex::encode(self.sha256.finalize()),
            md5: BASE64.encode(*self.md5.finalize()),
            facts,
        })
    }
}

/// A failure of the disk, as clients see it.
pub(super) fn failed(what: &str, error: &io::Error) -> Problem {
    tracing::error!(%error, "cannot {what}");
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        let message = "the disk of the agent's state directory is full: the state is as it was";
        return Problem::new(Reason::ResourceExhausted, message)
            .evidence(error.to_string())
            .remedy("make room on that disk, by removing what is not needed; then try again");
    }
    Problem::new(Reason::Internal, format!("the agent cannot {what}")).evidence(error.to_string())
}

pub(super) fn file_of(number: u64) -> String {
    format!("{number}{SUFFIX}")
}

pub(super) fn tolerate(result: io::Result<()>, path: &Path) {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "a file that no state has cannot be removed");
        }
        _ => {}
    }
}

pub(super) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
