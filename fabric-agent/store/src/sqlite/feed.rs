//! Recent events in memory, so that a thousand watchers cost the database nothing; a watcher that
//! is further behind reads from the database, so a slow one costs no memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, stream};
use tokio::sync::watch;

use crate::{Event, Revision, StoreError, WatchStream};

use super::Mailbox;

/// Events kept in memory.
const RECENT: usize = 2_048;

#[derive(Debug)]
pub(super) struct Feed {
    recent: Mutex<Recent>,
    head: watch::Sender<Option<Revision>>,
}

/// Every event above `after`, and perhaps some at it.
#[derive(Debug)]
struct Recent {
    after: Revision,
    events: VecDeque<Arc<Event>>,
}

impl Feed {
    pub(super) fn new(head: Revision) -> Self {
        let recent = Mutex::new(Recent { after: head, events: VecDeque::new() });
        Self { recent, head: watch::Sender::new(Some(head)) }
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes committed events known.
    pub(super) fn publish(&self, events: Vec<Event>, head: Revision) {
        if events.is_empty() {
            return;
        }
        let mut recent = self.lock();
        recent.events.extend(events.into_iter().map(Arc::new));
        while recent.events.len() > RECENT {
            // Where its revision is cut, the rest of it counts as gone too: it is not above `after`.
            let Some(oldest) = recent.events.pop_front() else { break };
            recent.after = oldest.revision();
        }
        drop(recent);
        self.head.send_replace(Some(head));
    }

    /// Forgets what is in memory after a failure; watchers go on from the database.
    pub(super) fn restart(&self, head: Revision) {
        let mut recent = self.lock();
        recent.events.clear();
        recent.after = head;
        drop(recent);
        self.head.send_replace(Some(head));
    }

    /// Wakes every watcher for the last time.
    pub(super) fn close(&self) {
        self.head.send_replace(None);
    }

    /// The events under `prefix` above `after` and the revision up to which they are complete;
    /// `None` where memory does not reach back that far.
    fn read(&self, prefix: &str, after: Revision) -> Option<(Vec<Arc<Event>>, Revision)> {
        let recent = self.lock();
        if after < recent.after {
            return None;
        }
        let start = recent.events.partition_point(|event| event.revision() <= after);
        let events =
            recent.events.range(start..).filter(|event| event.key().starts_with(prefix)).cloned();
        let upto = recent.events.back().map_or(recent.after, |event| event.revision());
        Some((events.collect(), upto.max(after)))
    }
}

struct Watcher {
    feed: Arc<Feed>,
    mailbox: Mailbox,
    head: watch::Receiver<Option<Revision>>,
    prefix: String,
    /// All up to here has been given out.
    seen: Revision,
}

pub(super) fn stream(
    feed: Arc<Feed>,
    mailbox: Mailbox,
    prefix: String,
    after: Revision,
) -> WatchStream {
    let head = feed.head.subscribe();
    let watcher = Watcher { feed, mailbox, head, prefix, seen: after };
    stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(events) => {
                let events = events.into_iter().map(Arc::unwrap_or_clone).collect();
                Some((Ok(events), Some(watcher)))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Watcher {
    /// The next events, whole revisions: both memory and pages are read in those.
    async fn next(&mut self) -> Result<Vec<Arc<Event>>, StoreError> {
        loop {
            let head = self.head.borrow_and_update().ok_or(StoreError::Closed)?;
            if self.seen >= head {
                self.head.changed().await.map_err(|_| StoreError::Closed)?;
                continue;
            }
            let (events, upto) = match self.feed.read(&self.prefix, self.seen) {
                Some(read) => read,
                None => self.page().await?,
            };
            self.seen = upto;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    async fn page(&self) -> Result<(Vec<Arc<Event>>, Revision), StoreError> {
        let (prefix, after) = (self.prefix.clone(), self.seen);
        let page = self.mailbox.read(move |tables| tables.events(&prefix, after)).await?;
        Ok((page.events.into_iter().map(Arc::new).collect(), page.upto))
    }
}
