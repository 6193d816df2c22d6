//! What can go wrong with a store, apart from a lost comparison (that is an outcome, not an error).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{LeaseId, Revision};

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The key or prefix has a form that not every engine could keep.
    #[error("\"{}\" is not a store key: use 1 to {} printable ASCII characters without spaces", key.escape_default(), crate::MAX_KEY_BYTES)]
    InvalidKey {
        /// What was given.
        key: String,
    },
    /// One transaction changes the same key twice; engines disagree about what that means.
    #[error("a transaction changes key \"{key}\" twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// More than every engine takes in one transaction.
    #[error("a transaction with {what} is above the limit of {limit}: split it")]
    TooLarge {
        /// What is too much, with its number: "300 operations".
        what: String,
        /// The limit, in the same unit.
        limit: usize,
    },
    /// The events asked for are gone: list again and watch from there.
    #[error(
        "events after revision {after} are gone, the store was compacted at {compacted}: list again and watch from there"
    )]
    Compacted {
        /// What the caller had seen.
        after: Revision,
        /// The youngest revision whose events are gone.
        compacted: Revision,
    },
    /// The caller knows a revision that this store has not reached: its data are older than the
    /// caller's, as after the restore of a backup.
    #[error(
        "revision {asked} is in the future, the store is at {head}: list again (was an older copy restored?)"
    )]
    FutureRevision {
        /// What the caller named.
        asked: Revision,
        /// Where the store is.
        head: Revision,
    },
    /// The lease expired, was revoked, or never was.
    #[error("lease {lease} does not exist: it expired or was revoked")]
    NoSuchLease {
        /// The lease.
        lease: LeaseId,
    },
    /// Another process has the database open.
    #[error("store {} is in use by {holder}: only one agent may open it", path.display())]
    Locked {
        /// The database.
        path: PathBuf,
        /// "process 1234", or "another process" where it left no number.
        holder: String,
    },
    /// The database was written by a newer version of this program.
    #[error("store {} has schema version {found}, this program knows up to {known}: run the newer version that wrote it", path.display())]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The file is a database, but of some other program.
    #[error("{} is an SQLite database, but not a Weft store: choose another state directory", path.display())]
    ForeignDatabase {
        /// The file.
        path: PathBuf,
    },
    /// The database is damaged.
    #[error("store {} is damaged ({finding}): restore a backup of weft.db and weft.db-wal; to give up all that it managed: fabric-agent purge", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        finding: String,
    },
    /// A file or directory around the database could not be used.
    #[error("{action} {}", path.display())]
    File {
        /// "create directory", "open lock file".
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite failed.
    #[error("{action} in the store")]
    Sqlite {
        /// What was attempted: "commit", "read key".
        action: &'static str,
        /// Why. Shared, because one failed commit fails every call that was part of it.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The transaction was to leave room to spare, and there is none. Nothing of it was kept.
    #[error("the store's file system has no {} KiB of room to spare", bytes >> 10)]
    NoReserve {
        /// Bytes that there must be for it.
        bytes: u64,
    },
    /// The store was closed while the call was under way; a write may or may not have happened.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        use rusqlite::ErrorCode;
        match self {
            Self::Sqlite { source, .. } => !matches!(
                source.sqlite_error_code(),
                None | Some(
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ReadOnly
                )
            ),
            Self::Locked { .. } | Self::NoReserve { .. } => true,
            Self::File { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// Whether the file system is what was too small. Nothing of the call was kept then.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Self::File { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::NoReserve { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn sqlite(action: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { action, source: Arc::new(source) }
    }
}
