//! Leases: keys that vanish when nobody keeps them alive.

use std::time::Duration;

use crate::{LeaseId, MAX_TXN_OPS, Revision, StoreError};

use super::{Lease, Tables};

impl Tables {
    pub(in super::super) fn grant(&mut self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let insert = || {
            self.connection
                .prepare_cached("INSERT INTO lease (ttl_ms) VALUES (?1)")?
                .insert([ttl_ms])
        };
        let id = LeaseId(insert().map_err(StoreError::sqlite("grant a lease"))?);
        self.leases.insert(id, Lease { ttl, ends: self.clock.now().saturating_add(ttl) });
        Ok(id)
    }

    pub(in super::super) fn keep_alive(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        let now = self.clock.now();
        let known = self.leases.get_mut(&lease).ok_or(StoreError::NoSuchLease { lease })?;
        known.ends = now.saturating_add(known.ttl);
        Ok(())
    }

    pub(in super::super) fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        if !self.leases.contains_key(&lease) {
            return Err(StoreError::NoSuchLease { lease });
        }
        self.end(lease).map_err(StoreError::sqlite("revoke a lease"))
    }

    /// Ends the leases whose time is over.
    pub(super) fn end_leases(&mut self) -> rusqlite::Result<()> {
        let now = self.clock.now();
        let mut over: Vec<_> =
            self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, _)| *id).collect();
        over.sort_unstable();
        for lease in over {
            tracing::debug!(%lease, "lease expired");
            self.end(lease)?;
        }
        Ok(())
    }

    /// Deletes the lease and its keys, in as few revisions as transactions would need.
    fn end(&mut self, lease: LeaseId) -> rusqlite::Result<()> {
        let keys = self
            .connection
            .prepare_cached("SELECT key FROM item WHERE lease = ?1 ORDER BY key")?
            .query_map([lease], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        for keys in keys.chunks(MAX_TXN_OPS) {
            let revision = Revision(self.head.0 + 1);
            for key in keys {
                self.delete(key.clone(), revision)?;
            }
            self.advance(revision)?;
        }
        self.connection.prepare_cached("DELETE FROM lease WHERE id = ?1")?.execute([lease])?;
        self.leases.remove(&lease);
        Ok(())
    }
}
