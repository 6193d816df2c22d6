//! The log of events: reading it for watchers, and forgetting its old end.

use rusqlite::params;

use crate::{Event, Revision, StoreError};

use super::{PAGE, Page, Tables, end_of, event};

impl Tables {
    /// Whether every event above `after` is still there.
    pub(in super::super) fn check_watch(&self, after: Revision) -> Result<(), StoreError> {
        if after > self.head {
            return Err(StoreError::FutureRevision { asked: after, head: self.head });
        }
        if after < self.compacted {
            return Err(StoreError::Compacted { after, compacted: self.compacted });
        }
        Ok(())
    }

    /// The events under `prefix` above `after`, as many as fit one page.
    pub(in super::super) fn events(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<Page, StoreError> {
        self.check_watch(after)?;
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let read = || {
            self.connection
                .prepare_cached(
                    "SELECT key, value, create_revision, revision, lease FROM event
                     WHERE revision > ?1 AND key >= ?2 AND key < ?3
                     ORDER BY revision, place LIMIT ?4",
                )?
                .query_map(params![after, prefix, end_of(prefix), limit], event)?
                .collect::<Result<Vec<Event>, _>>()
        };
        let mut events = read().map_err(StoreError::sqlite("read events"))?;
        let mut upto = self.head;
        if events.len() == PAGE
            && let Some(last) = events.last().map(Event::revision)
        {
            // The page may end within a revision: leave that one to the next page.
            events.retain(|event| event.revision() < last);
            upto = Revision(last.0 - 1);
        }
        Ok(Page { events, upto })
    }

    pub(in super::super) fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        if revision > self.head {
            return Err(StoreError::FutureRevision { asked: revision, head: self.head });
        }
        self.forget(revision).map_err(StoreError::sqlite("compact"))
    }

    /// Automatic compaction, a tenth of the kept revisions at a time.
    pub(super) fn compact_old(&mut self) -> rusqlite::Result<()> {
        let kept = self.head.0 - self.compacted.0;
        let slack = self.keep_revisions / 10;
        if kept <= self.keep_revisions.saturating_add(slack) {
            return Ok(());
        }
        self.forget(Revision(self.head.0 - self.keep_revisions))
    }

    fn forget(&mut self, revision: Revision) -> rusqlite::Result<()> {
        if revision <= self.compacted {
            return Ok(());
        }
        self.connection
            .prepare_cached("DELETE FROM event WHERE revision <= ?1")?
            .execute([revision])?;
        self.connection.prepare_cached("UPDATE store SET compacted = ?1")?.execute([revision])?;
        self.compacted = revision;
        Ok(())
    }
}
