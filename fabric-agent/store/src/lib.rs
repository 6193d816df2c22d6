//! Desired state and status, with revisions: a narrow trait, and SQLite as its embedded engine.
//!
//! ```text
//!   txn(when, then) ─▶ revision n+1 ─▶ items (what is)  ──▶ get, list
//!                                  └─▶ events (what was) ─▶ watch, until compacted
//! ```
//!
//! A reader lists a prefix, then watches it from the listing's revision and misses nothing. A
//! writer names the revision that it has read; who comes second gets a conflict and reads again.
//! Large things (images, console logs, metrics) never go in here. [`conformance`] says what every
//! engine must do.

mod clock;
pub mod conformance;
mod error;
mod sqlite;
mod types;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::StoreError;
pub use sqlite::{SqliteOptions, SqliteStore};
pub use types::{
    Compare, Event, Item, LeaseId, Listing, MAX_KEY_BYTES, MAX_TXN_BYTES, MAX_TXN_OPS, Op,
    Revision, Txn, TxnOutcome,
};

/// Whole transactions in the order of their revisions, endless: an item holds, in order, all events
/// of each revision that it holds any of, and is never empty. After an error it ends.
pub type WatchStream = BoxStream<'static, Result<Vec<Event>, StoreError>>;

/// [`WatchStream`] event by event, for who does not mind half a transaction.
pub type EventStream = BoxStream<'static, Result<Event, StoreError>>;

/// A durable, ordered, watchable map from text to bytes.
///
/// Keys are 1 to [`MAX_KEY_BYTES`] printable ASCII characters. A call whose future is dropped may
/// or may not have had its effect.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// One key, or nothing.
    async fn get(&self, key: &str) -> Result<Option<Item>, StoreError>;

    /// Every key that starts with `prefix` (all for the empty one), as of one revision.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// Applies the transaction as a whole or not at all. Once it is answered, it is durable.
    ///
    /// # Errors
    /// Those of its form ([`StoreError::InvalidKey`], [`StoreError::DuplicateKey`],
    /// [`StoreError::TooLarge`]), [`StoreError::NoSuchLease`], and those of the engine. A
    /// condition that does not hold is no error but [`TxnOutcome::Conflict`].
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError>;

    /// Every change under `prefix` with a revision above `after`, past ones first.
    ///
    /// # Errors
    /// Here or as the stream's last item: [`StoreError::Compacted`] where some of them are gone
    /// already, [`StoreError::FutureRevision`] where the store has not reached `after`.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError>;

    /// [`watch`](Store::watch), event by event.
    ///
    /// # Errors
    /// The same.
    async fn watch_events(&self, prefix: &str, after: Revision) -> Result<EventStream, StoreError> {
        let changes = self.watch(prefix, after).await?;
        let events = changes.map_ok(|events| stream::iter(events).map(Ok)).try_flatten();
        Ok(events.boxed())
    }

    /// A lease that ends `ttl` after its last sign of life. A restart of the store is one.
    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// A sign of life: the lease has its whole time again.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends the lease now and deletes its keys.
    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Forgets the events up to and including `revision`; what is, stays. Going back is no error.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;
}
