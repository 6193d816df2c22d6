//! Room that the store has for itself, so that a full disk does not silence it.
//!
//! Free pages inside the database and a log (WAL) that has its length already: both are written over,
//! and SQLite asks the file system for nothing. Whoever fills the disk, a guest perhaps, cannot take
//! them. New things are made only while the reserve is whole ([`crate::Txn::keeping_reserve`]); what
//! becomes of the old is written to it. On a file system that copies on write (btrfs) it helps less.
//!
//! The log is kept from growing by beginning it anew (`PRAGMA wal_checkpoint(RESTART)`,
//! sqlite.org/pragma.html): its end moves into the database, its file keeps its length.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::tables::Tables;

/// What a reserve that is whole has at least.
pub(super) const BYTES: u64 = 1 << 20;
/// What it is filled up to, so that it is not filled for each new thing.
const FILLED_BYTES: u64 = 2 * BYTES;

#[derive(Debug)]
pub(super) struct Reserve {
    database: PathBuf,
    log: PathBuf,
    is_whole: bool,
}

impl Reserve {
    pub(super) fn new(database: &Path) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        Self { database: database.to_owned(), log: log.into(), is_whole: false }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Free pages, in bytes, that the database's file has room for.
    fn bytes(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let pragma = |name: &str| {
            connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
        };
        let (page, free) = (pragma("page_size")?, pragma("freelist_count")?);
        // Pages that are in the log only are not in the file yet.
        let missing = (pragma("page_count")? * page).saturating_sub(length(&self.database));
        Ok((free * page).saturating_sub(missing))
    }
}

fn length(file: &Path) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

impl Tables {
    /// At the start: a log that was closed in good order has no length.
    pub(super) fn prepare_reserve(&mut self) {
        if length(&self.reserve.log) < BYTES {
            self.write_reserve(BYTES);
        }
        self.fill_reserve();
    }

    /// Makes the reserve whole, where that is possible.
    pub(super) fn fill_reserve(&mut self) {
        let mut there = self.reserve.bytes(&self.connection).unwrap_or_default();
        if there < BYTES {
            self.write_reserve(FILLED_BYTES);
            there = self.reserve.bytes(&self.connection).unwrap_or_default();
        }
        let (was, is) =
            (self.reserve.is_whole, there >= BYTES && length(&self.reserve.log) >= BYTES);
        self.reserve.is_whole = is;
        match (was, is) {
            (true, false) => {
                tracing::warn!("the store has no room to spare: nothing new is taken in")
            }
            (false, true) => tracing::debug!("the store has room to spare"),
            _ => {}
        }
    }

    /// Writes so many bytes into the database and takes them out again: in two transactions, or SQLite
    /// would not write pages that are free in the end.
    fn write_reserve(&mut self, bytes: u64) {
        let fill = format!(
            "DROP TABLE IF EXISTS reserve;
             CREATE TABLE reserve (filler BLOB NOT NULL) STRICT;
             INSERT INTO reserve VALUES (zeroblob({bytes}));"
        );
        let filled = self.connection.execute_batch(&format!("BEGIN; {fill} COMMIT;"));
        if filled.is_err() && !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.begin_log_anew();
        let emptied = self.connection.execute_batch("DROP TABLE IF EXISTS reserve");
        self.begin_log_anew();
        let _ = self.connection.execute_batch("PRAGMA shrink_memory");
        if let Err(error) = filled.and(emptied) {
            tracing::debug!(%error, "the store's reserve is not filled");
        }
    }

    /// Moves the log's content into the database; what comes then is written from the log's begin.
    /// Returns whether that succeeded.
    pub(super) fn begin_log_anew(&self) -> bool {
        let moved = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
            row.get::<_, i64>(0).map(|busy| busy == 0)
        });
        moved.unwrap_or_else(|error| {
            tracing::warn!(%error, "the store's log cannot be moved into its database");
            false
        })
    }
}
