//! Opens the file: one process only, our schema only, undamaged only.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use rusqlite::{Connection, ErrorCode};

use crate::StoreError;

/// "WEFT": says whose file it is (`file` and SQLite's `application_id` show it).
const APPLICATION_ID: i64 = 0x5745_4654;
/// Raised with every change of the tables that an older program would misread.
pub(super) const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE store (
        one            INTEGER PRIMARY KEY CHECK (one = 1),
        schema_version INTEGER NOT NULL,
        revision       INTEGER NOT NULL,
        compacted      INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE item (
        key             TEXT PRIMARY KEY,
        value           BLOB NOT NULL,
        create_revision INTEGER NOT NULL,
        mod_revision    INTEGER NOT NULL,
        lease           INTEGER
    ) STRICT;
    CREATE INDEX item_lease ON item (lease) WHERE lease IS NOT NULL;
    -- value is NULL for a deletion
    CREATE TABLE event (
        revision        INTEGER NOT NULL,
        place           INTEGER NOT NULL,
        key             TEXT NOT NULL,
        value           BLOB,
        create_revision INTEGER NOT NULL,
        lease           INTEGER,
        PRIMARY KEY (revision, place)
    ) STRICT;
    -- AUTOINCREMENT: the number of a lease is never used again
    CREATE TABLE lease (
        id     INTEGER PRIMARY KEY AUTOINCREMENT,
        ttl_ms INTEGER NOT NULL
    ) STRICT;
";

pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Holds other processes off while it is open.
    pub(super) lock: File,
}

pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|source| StoreError::File {
            action: "create directory",
            path: parent.to_owned(),
            source,
        })?;
    }
    let lock = lock(path)?;
    // SQLite would make it world-readable; host keys and user data are in it.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(|source| {
        StoreError::File { action: "create store", path: path.to_owned(), source }
    })?;
    let connection = Connection::open(path).map_err(|error| judge(path, error))?;
    prepare(path, &connection)?;
    Ok(Opened { connection, lock })
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let failed = |action: &'static str| {
        let path = lock_path.clone();
        move |source| StoreError::File { action, path, source }
    };
    let mut file = loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open lock file"))?;
        match file.try_lock() {
            // Who had it may have removed the file: nobody else would see this lock.
            Ok(()) if !is_at(&file, &lock_path).map_err(failed("look at lock file"))? => {}
            Ok(()) => break file,
            Err(TryLockError::WouldBlock) => return Err(in_use(path, file)),
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
    };
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", process::id()))
        .map_err(failed("write lock file"))?;
    Ok(file)
}

fn in_use(path: &Path, mut lock: File) -> StoreError {
    let mut text = String::new();
    let holder = match lock.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        _ => "another process".to_owned(),
    };
    StoreError::Locked { path: path.to_owned(), holder }
}

/// Whether the file is the one that has this name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn prepare(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let judged = |error| judge(path, error);
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    // The first read also finds out whether this is a database at all.
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(judged)?;
    let id = pragma("application_id").map_err(judged)?;
    if id != APPLICATION_ID && (id != 0 || tables != 0) {
        return Err(StoreError::ForeignDatabase { path: path.to_owned() });
    }
    // The version of a newer program is told before anything is changed.
    if tables != 0 {
        check_version(path, connection)?;
        check_integrity(path, connection)?;
    }
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA wal_autocheckpoint = 1000;
             PRAGMA busy_timeout = 5000;",
        )
        .map_err(judged)?;
    if tables == 0 {
        // One transaction: a crash leaves an empty file or a whole schema.
        connection
            .execute_batch(&format!(
                "BEGIN IMMEDIATE;
                 {SCHEMA}
                 INSERT INTO store VALUES (1, {SCHEMA_VERSION}, 0, 0);
                 PRAGMA application_id = {APPLICATION_ID};
                 COMMIT;"
            ))
            .map_err(judged)?;
    }
    Ok(())
}

fn check_version(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let found: i64 = connection
        .query_row("SELECT schema_version FROM store", [], |row| row.get(0))
        .map_err(|error| judge(path, error))?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::NewerSchema {
            path: path.to_owned(),
            found,
            known: SCHEMA_VERSION,
        });
    }
    Ok(())
}

fn check_integrity(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let finding: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| judge(path, error))?;
    if finding == "ok" {
        return Ok(());
    }
    Err(StoreError::Damaged { path: path.to_owned(), finding: finding.replace('\n', " ") })
}

fn judge(path: &Path, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged { path: path.to_owned(), finding: error.to_string() }
        }
        _ => StoreError::sqlite("open the tables")(error),
    }
}
