//! What the calls do to the tables. Runs on the store's thread, inside a transaction of its.

mod history;
mod lease;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use crate::{
    Clock, Event, Item, LeaseId, Listing, MAX_TXN_OPS, Op, Revision, StoreError, Txn, TxnOutcome,
};

use super::SqliteOptions;
use super::reserve::{self, Reserve};

/// Rows of one page of past events; more than one transaction can have, so that a page always
/// holds a whole revision.
const PAGE: usize = 4 * MAX_TXN_OPS;
/// Above every key: keys are printable ASCII.
const LAST: &str = "\u{7f}";

#[derive(Debug)]
pub(super) struct Tables {
    pub(super) connection: Connection,
    clock: Arc<dyn Clock>,
    keep_revisions: u64,
    head: Revision,
    compacted: Revision,
    /// Events of the transaction under way.
    pending: Vec<Event>,
    pub(super) reserve: Reserve,
    leases: HashMap<LeaseId, Lease>,
}

/// Not in the database: after a restart a lease has its whole time again, since nobody could keep
/// it alive meanwhile.
#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: Duration,
    ends: Duration,
}

#[derive(Debug)]
pub(super) struct Page {
    pub(super) events: Vec<Event>,
    /// The page is complete up to here.
    pub(super) upto: Revision,
}

impl ToSql for Revision {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let number = i64::try_from(self.0)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok(number.into())
    }
}

impl FromSql for Revision {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(|number| Self(number.unsigned_abs()))
    }
}

impl ToSql for LeaseId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

impl FromSql for LeaseId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self)
    }
}

fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item {
        key: row.get(0)?,
        value: row.get(1)?,
        create_revision: row.get(2)?,
        mod_revision: row.get(3)?,
        lease: row.get(4)?,
    })
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let (key, revision) = (row.get(0)?, row.get(3)?);
    Ok(match row.get::<_, Option<Vec<u8>>>(1)? {
        Some(value) => Event::Put(Item {
            key,
            value,
            create_revision: row.get(2)?,
            mod_revision: revision,
            lease: row.get(4)?,
        }),
        None => Event::Delete { key, revision },
    })
}

/// The first key that does not start with `prefix` any more. The last character of a key is below
/// 0x7f, so adding one never carries.
fn end_of(prefix: &str) -> String {
    let mut bytes = prefix.as_bytes().to_vec();
    match bytes.last_mut() {
        Some(last) => *last += 1,
        None => return LAST.to_owned(),
    }
    String::from_utf8(bytes).unwrap_or_else(|_| LAST.to_owned())
}

impl Tables {
    pub(super) fn load(
        connection: Connection,
        path: &Path,
        options: &SqliteOptions,
    ) -> Result<Self, StoreError> {
        connection.set_prepared_statement_cache_capacity(32);
        let mut tables = Self {
            connection,
            clock: Arc::clone(&options.clock),
            keep_revisions: options.keep_revisions,
            head: Revision::ABSENT,
            compacted: Revision::ABSENT,
            pending: Vec::new(),
            reserve: Reserve::new(path),
            leases: HashMap::new(),
        };
        tables.reload().map_err(StoreError::sqlite("load the tables"))?;
        tables.prepare_reserve();
        Ok(tables)
    }

    fn reload(&mut self) -> rusqlite::Result<()> {
        (self.head, self.compacted) =
            self.connection.query_row("SELECT revision, compacted FROM store", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let now = self.clock.now();
        let mut leases = HashMap::new();
        let mut query = self.connection.prepare_cached("SELECT id, ttl_ms FROM lease")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (id, ttl_ms): (LeaseId, i64) = (row.get(0)?, row.get(1)?);
            let ttl = Duration::from_millis(ttl_ms.unsigned_abs());
            let fresh = Lease { ttl, ends: now + ttl };
            leases.insert(id, self.leases.get(&id).copied().unwrap_or(fresh));
        }
        drop(rows);
        drop(query);
        self.leases = leases;
        Ok(())
    }

    pub(super) fn head(&self) -> Revision {
        self.head
    }

    pub(super) fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    pub(super) fn next_end_is_due(&self) -> bool {
        let now = self.clock.now();
        self.leases.values().any(|lease| lease.ends <= now)
    }

    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Runs `work` in one SQLite transaction, after ending leases whose time is over, and
    /// returns the committed events. After an error nothing of it has happened.
    pub(super) fn transaction(
        &mut self,
        work: impl FnOnce(&mut Self),
    ) -> rusqlite::Result<Vec<Event>> {
        let done = self.connection.execute_batch("BEGIN").and_then(|()| {
            self.end_leases()?;
            work(self);
            self.compact_old()?;
            self.connection.execute_batch("COMMIT")
        });
        match done {
            Ok(()) => Ok(std::mem::take(&mut self.pending)),
            Err(error) => {
                self.pending.clear();
                if self.in_transaction()
                    && let Err(error) = self.connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "store rollback failed");
                }
                if let Err(error) = self.reload() {
                    tracing::error!(%error, "store reload failed");
                }
                Err(error)
            }
        }
    }

    /// Runs `work` so that after an error nothing of it stays, while the rest of the transaction
    /// does.
    pub(super) fn atomically<T>(
        &mut self,
        work: &mut impl FnMut(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (head, compacted, events) = (self.head, self.compacted, self.pending.len());
        self.execute("SAVEPOINT call", "begin")?;
        let result = work(self);
        if result.is_err() {
            (self.head, self.compacted) = (head, compacted);
            self.pending.truncate(events);
            self.execute("ROLLBACK TO call", "roll back")?;
        }
        self.execute("RELEASE call", "end")?;
        result
    }

    fn execute(&self, sql: &str, action: &'static str) -> Result<(), StoreError> {
        let run = || self.connection.prepare_cached(sql)?.execute([]).map(|_| ());
        run().map_err(StoreError::sqlite(action))
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Item>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(
                    "SELECT key, value, create_revision, mod_revision, lease
                     FROM item WHERE key = ?1",
                )?
                .query_row([key], item)
                .optional()
        };
        read().map_err(StoreError::sqlite("read a key"))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(
                    "SELECT key, value, create_revision, mod_revision, lease
                     FROM item WHERE key >= ?1 AND key < ?2 ORDER BY key",
                )?
                .query_map([prefix, &end_of(prefix)], item)?
                .collect::<Result<Vec<_>, _>>()
        };
        let items = read().map_err(StoreError::sqlite("list keys"))?;
        Ok(Listing { items, revision: self.head })
    }

    pub(super) fn txn(&mut self, txn: &Txn) -> Result<TxnOutcome, StoreError> {
        if txn.keeps_reserve && !self.reserve.is_whole() {
            return Err(StoreError::NoReserve { bytes: reserve::BYTES });
        }
        for compare in &txn.when {
            let found = self
                .revisions(&compare.key)
                .map_err(StoreError::sqlite("compare"))?
                .map_or(Revision::ABSENT, |(_, mod_revision)| mod_revision);
            if found != compare.mod_revision {
                let (key, expected) = (compare.key.clone(), compare.mod_revision);
                return Ok(TxnOutcome::Conflict { key, expected, found });
            }
        }
        let next = Revision(self.head.0 + 1);
        let events = self.pending.len();
        for op in &txn.then {
            match op {
                Op::Put { key, value, lease } => self.put(key, value, *lease, next)?,
                Op::Delete { key } => {
                    self.delete(key.clone(), next).map_err(StoreError::sqlite("delete"))?;
                }
            }
        }
        if self.pending.len() > events {
            self.advance(next).map_err(StoreError::sqlite("advance"))?;
        }
        Ok(TxnOutcome::Committed { revision: self.head })
    }

    fn revisions(&self, key: &str) -> rusqlite::Result<Option<(Revision, Revision)>> {
        self.connection
            .prepare_cached("SELECT create_revision, mod_revision FROM item WHERE key = ?1")?
            .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    fn put(
        &mut self,
        key: &str,
        value: &[u8],
        lease: Option<LeaseId>,
        revision: Revision,
    ) -> Result<(), StoreError> {
        if let Some(lease) = lease
            && !self.leases.contains_key(&lease)
        {
            return Err(StoreError::NoSuchLease { lease });
        }
        let mut write = || {
            let create_revision =
                self.revisions(key)?.map_or(revision, |(create_revision, _)| create_revision);
            let (key, value) = (key.to_owned(), value.to_owned());
            let item = Item { key, value, create_revision, mod_revision: revision, lease };
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO item VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![item.key, item.value, create_revision, revision, lease])?;
            self.log(Event::Put(item))
        };
        write().map_err(StoreError::sqlite("put"))
    }

    fn delete(&mut self, key: String, revision: Revision) -> rusqlite::Result<()> {
        let gone =
            self.connection.prepare_cached("DELETE FROM item WHERE key = ?1")?.execute([&key])?;
        if gone > 0 {
            self.log(Event::Delete { key, revision })?;
        }
        Ok(())
    }

    fn log(&mut self, event: Event) -> rusqlite::Result<()> {
        let (value, create_revision, lease) = match &event {
            Event::Put(item) => (Some(&item.value), item.create_revision, item.lease),
            Event::Delete { .. } => (None, Revision::ABSENT, None),
        };
        let place = i64::try_from(self.pending.len()).unwrap_or(i64::MAX);
        self.connection
            .prepare_cached("INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                event.revision(),
                place,
                event.key(),
                value,
                create_revision,
                lease
            ])?;
        self.pending.push(event);
        Ok(())
    }

    fn advance(&mut self, to: Revision) -> rusqlite::Result<()> {
        self.connection.prepare_cached("UPDATE store SET revision = ?1")?.execute([to])?;
        self.head = to;
        Ok(())
    }
}

#[cfg(test)]
impl Tables {
    /// As if the disk had room for `pages` pages only.
    pub(super) fn limit_pages(&self, pages: i64) -> rusqlite::Result<()> {
        self.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }
}
