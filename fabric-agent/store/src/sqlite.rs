//! The embedded engine: one SQLite file, owned by one thread.
//!
//! ```text
//!   callers ──Call──▶ channel ──▶ thread: BEGIN, all that waits, COMMIT (one fsync) ──▶ answers
//!                                                                └─▶ Feed ──▶ watch streams
//! ```
//!
//! Writes that wait together share one SQLite transaction, each in a savepoint of its own; none is
//! answered before the commit, so what an answer says is durable. Reads come before them, and need
//! no commit. [`reserve`] is what a full disk leaves to write to.

mod feed;
mod open;
mod reserve;
mod tables;
mod worker;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::types::{check_key, check_prefix};
use crate::{
    Clock, Item, LeaseId, Listing, Revision, Store, StoreError, SystemClock, Txn, TxnOutcome,
    WatchStream,
};

use feed::Feed;
use tables::Tables;
use worker::{Call, Message, Work};

/// What may be chosen for a [`SqliteStore`].
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// How many revisions of events are kept for watchers that reconnect; older ones are compacted
    /// away without being asked.
    pub keep_revisions: u64,
    /// The clock of the leases.
    pub clock: Arc<dyn Clock>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { keep_revisions: 10_000, clock: Arc::new(SystemClock::default()) }
    }
}

/// A [`Store`] in one SQLite file. Dropping it finishes what was asked and closes the file.
#[derive(Debug)]
pub struct SqliteStore {
    mailbox: Mailbox,
    feed: Arc<Feed>,
    thread: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the store at `path`, and makes it where there is none. Blocks for as long as a check
    /// of the file takes.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process has it open, [`StoreError::NewerSchema`],
    /// [`StoreError::ForeignDatabase`], [`StoreError::Damaged`], or what the file system said.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        let opened = open::open(path)?;
        let tables = Tables::load(opened.connection, path, &options)?;
        let feed = Arc::new(Feed::new(tables.head()));
        let (sender, inbox) = mpsc::channel();
        let (worker_feed, lock) = (Arc::clone(&feed), opened.lock);
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                worker::run(tables, &inbox, &worker_feed);
                drop(lock); // Only after the database is closed.
            })
            .map_err(|source| StoreError::File {
                action: "start the thread for",
                path: path.to_owned(),
                source,
            })?;
        Ok(Self { mailbox: Mailbox { sender }, feed, thread: Some(thread) })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // Watch streams may outlive the store and hold senders: the channel does not close itself.
        let _ = self.mailbox.sender.send(Message::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

#[derive(Clone, Debug)]
struct Mailbox {
    sender: mpsc::Sender<Message>,
}

impl Mailbox {
    /// Runs `work`, which changes nothing, on the store's thread.
    async fn read<T, F>(&self, mut work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Tables) -> Result<T, StoreError> + Send + 'static,
    {
        self.call(Message::Read, move |tables| work(tables)).await
    }

    /// Runs `work` on the store's thread, atomically; the answer comes when its effects are durable.
    async fn write<T, F>(
        &self,
        message: fn(Box<dyn Work>) -> Message,
        mut work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tables) -> Result<T, StoreError> + Send + 'static,
    {
        self.call(message, move |tables| tables.atomically(&mut work)).await
    }

    async fn call<T, F>(
        &self,
        message: fn(Box<dyn Work>) -> Message,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tables) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Call::new(work, reply));
        self.sender.send(message(call)).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &str) -> Result<Option<Item>, StoreError> {
        check_key(key)?;
        let key = key.to_owned();
        self.mailbox.read(move |tables| tables.get(&key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        check_prefix(prefix)?;
        let prefix = prefix.to_owned();
        self.mailbox.read(move |tables| tables.list(&prefix)).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        txn.check()?;
        let message = if txn.keeps_reserve { Message::Grow } else { Message::Write };
        self.mailbox.write(message, move |tables| tables.txn(&txn)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        check_prefix(prefix)?;
        self.mailbox.read(move |tables| tables.check_watch(after)).await?;
        Ok(feed::stream(Arc::clone(&self.feed), self.mailbox.clone(), prefix.to_owned(), after))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.mailbox.write(Message::Write, move |tables| tables.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.mailbox.call(Message::Write, move |tables| tables.keep_alive(lease)).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.mailbox.write(Message::Write, move |tables| tables.revoke(lease)).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.mailbox.write(Message::Write, move |tables| tables.compact(revision)).await
    }
}

#[cfg(test)]
mod tests;
