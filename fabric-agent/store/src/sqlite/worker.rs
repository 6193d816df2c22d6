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
    /// Changes nothing: is answered at once, whether or not there is room for a commit.
    Read(Box<dyn Work>),
    Write(Box<dyn Work>),
    /// A write that wants the reserve to stay whole.
    Grow(Box<dyn Work>),
    Stop,
}

/// A call; that of a write waits for the commit.
pub(super) trait Work: Send {
    /// May be called again, where nothing of the time before has stayed.
    fn run(&mut self, tables: &mut Tables);
    fn is_out_of_space(&self) -> bool;
    fn answer(self: Box<Self>, commit: Result<(), Arc<rusqlite::Error>>);
}

pub(super) struct Call<T, F> {
    work: F,
    result: Result<T, StoreError>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Call<T, F> {
    pub(super) fn new(work: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { work, result: Err(StoreError::Closed), reply }
    }
}

impl<T, F> Work for Call<T, F>
where
    T: Send,
    F: FnMut(&mut Tables) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, tables: &mut Tables) {
        self.result = (self.work)(tables);
    }

    fn is_out_of_space(&self) -> bool {
        self.result.as_ref().is_err_and(StoreError::is_out_of_space)
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
    let mut batch = Batch::default();
    while !batch.stopped {
        let first = if tables.has_leases() {
            inbox.recv_timeout(LEASE_POLL)
        } else {
            inbox.recv().map_err(RecvTimeoutError::from)
        };
        match first {
            Ok(message) => batch.take(message),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        while batch.len() < MAX_BATCH && !batch.stopped {
            match inbox.try_recv() {
                Ok(message) => batch.take(message),
                Err(_nothing_waits) => break,
            }
        }
        batch.carry_out(&mut tables, feed);
    }
    feed.close();
}

/// What waited together.
#[derive(Default)]
struct Batch {
    reads: Vec<Box<dyn Work>>,
    writes: Vec<Box<dyn Work>>,
    grows: bool,
    stopped: bool,
}

impl Batch {
    fn len(&self) -> usize {
        self.reads.len() + self.writes.len()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Read(call) => self.reads.push(call),
            Message::Write(call) => self.writes.push(call),
            Message::Grow(call) => {
                self.grows = true;
                self.writes.push(call);
            }
            Message::Stop => self.stopped = true,
        }
    }

    /// Nobody whose write was answered waits here: so the reads may come first.
    fn carry_out(&mut self, tables: &mut Tables, feed: &Feed) {
        if tables.next_end_is_due() {
            commit_together(tables, Vec::new(), feed);
        }
        for mut read in self.reads.drain(..) {
            read.run(tables);
            read.answer(Ok(()));
        }
        if std::mem::take(&mut self.grows) {
            tables.fill_reserve();
        }
        if !self.writes.is_empty() {
            commit_together(tables, std::mem::take(&mut self.writes), feed);
        }
    }
}

fn commit_together(tables: &mut Tables, mut batch: Vec<Box<dyn Work>>, feed: &Feed) {
    let done = try_commit(tables, &mut batch, feed);
    let is_full = |error: &rusqlite::Error| {
        error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            || batch.iter().any(|call| call.is_out_of_space())
    };
    // With its log begun anew the database is written where it has room already. Each by itself: what
    // finds none must not take the others with it.
    if done.as_ref().is_err_and(is_full) && tables.begin_log_anew() {
        for call in batch {
            let mut alone = vec![call];
            let done = try_commit(tables, &mut alone, feed);
            answer(alone, done);
        }
        return;
    }
    answer(batch, done);
}

fn try_commit(
    tables: &mut Tables,
    batch: &mut [Box<dyn Work>],
    feed: &Feed,
) -> rusqlite::Result<()> {
    let done = tables.transaction(|tables| {
        for call in batch {
            // SQLite rolls everything back by itself on errors such as a full disk
            // (sqlite.org/lang_transaction.html): what follows must not commit on its own.
            if !tables.in_transaction() {
                break;
            }
            call.run(tables);
        }
    });
    match done {
        Ok(events) => {
            feed.publish(events, tables.head());
            Ok(())
        }
        Err(error) => {
            feed.restart(tables.head());
            Err(error)
        }
    }
}

fn answer(batch: Vec<Box<dyn Work>>, commit: rusqlite::Result<()>) {
    if let Err(error) = &commit {
        tracing::error!(%error, calls = batch.len(), "store commit failed");
    }
    let commit = commit.map_err(Arc::new);
    for call in batch {
        call.answer(commit.clone());
    }
}
