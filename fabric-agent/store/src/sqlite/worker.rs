//! The thread that owns the database: takes what waits, commits it at once, answers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::StoreError;

use super::feed::Feed;
use super::tables::Tables;

/// How many calls share one commit at most: bounds what one failed commit takes with it.
const MAX_BATCH: usize = 256;
/// How late a lease may end while nobody calls.
const LEASE_POLL: Duration = Duration::from_millis(250);

pub(super) enum Message {
    Call(Box<dyn Work>),
    Stop,
}

/// A call whose answer waits for the commit.
pub(super) trait Work: Send {
    fn run(&mut self, tables: &mut Tables);
    fn answer(self: Box<Self>, commit: Result<(), Arc<rusqlite::Error>>);
}

pub(super) struct Call<T, F> {
    work: Option<F>,
    result: Result<T, StoreError>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Call<T, F> {
    pub(super) fn new(work: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { work: Some(work), result: Err(StoreError::Closed), reply }
    }
}

impl<T, F> Work for Call<T, F>
where
    T: Send,
    F: FnOnce(&mut Tables) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, tables: &mut Tables) {
        if let Some(work) = self.work.take() {
            self.result = work(tables);
        }
    }

    fn answer(self: Box<Self>, commit: Result<(), Arc<rusqlite::Error>>) {
        let result = match (commit, self.result) {
            (Ok(()), result) => result,
            // Its own error says more than "no transaction is active".
            (Err(_), Err(own @ StoreError::Sqlite { .. })) => Err(own),
            (Err(source), _) => Err(StoreError::Sqlite { action: "commit", source }),
        };
        let _ = self.reply.send(result); // The caller may have gone.
    }
}

pub(super) fn run(mut tables: Tables, inbox: &Receiver<Message>, feed: &Feed) {
    let mut stopped = false;
    while !stopped {
        let mut batch = Vec::new();
        let first = if tables.has_leases() {
            inbox.recv_timeout(LEASE_POLL)
        } else {
            inbox.recv().map_err(RecvTimeoutError::from)
        };
        match first {
            Ok(Message::Call(call)) => batch.push(call),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if tables.next_end_is_due() => {}
            Err(RecvTimeoutError::Timeout) => continue,
        }
        while batch.len() < MAX_BATCH && !stopped {
            match inbox.try_recv() {
                Ok(Message::Call(call)) => batch.push(call),
                Ok(Message::Stop) => stopped = true,
                Err(_nothing_waits) => break,
            }
        }
        commit_together(&mut tables, batch, feed);
    }
    feed.close();
}

fn commit_together(tables: &mut Tables, mut batch: Vec<Box<dyn Work>>, feed: &Feed) {
    let done = tables.transaction(|tables| {
        for call in &mut batch {
            // SQLite rolls everything back by itself on errors such as a full disk
            // (sqlite.org/lang_transaction.html): what follows must not commit on its own.
            if !tables.in_transaction() {
                break;
            }
            call.run(tables);
        }
    });
    let commit = match done {
        Ok(events) => {
            feed.publish(events, tables.head());
            Ok(())
        }
        Err(source) => {
            tracing::error!(error = %source, calls = batch.len(), "store commit failed");
            feed.restart(tables.head());
            Err(Arc::new(source))
        }
    };
    for call in batch {
        call.answer(commit.clone());
    }
}
