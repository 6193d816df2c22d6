//! The host's events: the newest of them are kept in the store, for people.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::Mutex;
use weft_model::{Event, EventKind, Problem};
use weft_store::{Revision, Txn};

use crate::clock::Clock;
use crate::repo::{EVENTS, Repo, decode, encode, event_key, store_problem};

/// Events that are kept. They are rare: what a guest can bring about as often as it likes is no
/// event. One that fails is started again by people, or after pauses that grow.
const KEPT: u64 = 1000;

/// Takes events down.
#[derive(Debug)]
pub(crate) struct Events {
    repo: Repo,
    clock: Arc<dyn Clock>,
    /// The number of the next one; `None` until the store was asked.
    next: Mutex<Option<u64>>,
}

impl Events {
    pub(crate) fn new(repo: Repo, clock: Arc<dyn Clock>) -> Self {
        Self { repo, clock, next: Mutex::default() }
    }

    /// Keeps an event, and says it in the log. What cannot be stored is in the log only.
    pub(crate) async fn record(&self, kind: EventKind, subject: &str, message: String) {
        tracing::warn!(event = %kind, subject, "{message}");
        if let Err(problem) = self.store(kind, subject, message).await {
            tracing::error!(error = %problem, "an event could not be stored");
        }
    }

    async fn store(&self, kind: EventKind, subject: &str, message: String) -> Result<(), Problem> {
        let mut next = self.next.lock().await;
        let number = match *next {
            Some(number) => number,
            None => self.list().await?.last().map_or(1, |last| last.number + 1),
        };
        let at = self.clock.now();
        let event = Event { number, at, kind, subject: subject.to_owned(), message };
        let mut txn = Txn::new().put(event_key(number), encode(&event));
        if let Some(oldest) = number.checked_sub(KEPT).filter(|oldest| *oldest > 0) {
            txn = txn.delete(event_key(oldest));
        }
        self.repo.commit(txn).await?;
        *next = Some(number + 1);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Event>, Problem> {
        Ok(list(&self.repo).await?.0)
    }
}

/// All that are kept, in the order they happened, and the revision that they are of.
pub(crate) async fn list(repo: &Repo) -> Result<(Vec<Event>, Revision), Problem> {
    let listing = repo.store().list(EVENTS).await.map_err(store_problem)?;
    let events = listing.items.iter().map(|item| decode(&item.key, &item.value));
    Ok((events.collect::<Result<_, _>>()?, listing.revision))
}

/// Each event that is recorded after `revision`.
pub(crate) async fn follow(
    repo: &Repo,
    revision: Revision,
) -> Result<BoxStream<'static, Result<Event, Problem>>, Problem> {
    let changes = repo.store().watch_events(EVENTS, revision).await.map_err(store_problem)?;
    let recorded = changes.filter_map(async |change| match change {
        Ok(weft_store::Event::Put(item)) => Some(decode(&item.key, &item.value)),
        Ok(weft_store::Event::Delete { .. }) => None,
        Err(error) => Some(Err(store_problem(error))),
    });
    Ok(recorded.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn the_newest_events_are_kept_and_numbers_go_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let repo = crate::testing::repo(dir.path());
        let events = || Events::new(repo.clone(), Arc::new(SystemClock::of_this_boot().unwrap()));
        let first = events();
        for n in 0..KEPT + 5 {
            first.record(EventKind::Drift, "vpc-1", format!("event {n}")).await;
        }
        let (kept, revision) = list(&repo).await.unwrap();
        assert_eq!(kept.len() as u64, KEPT);
        assert_eq!((kept[0].number, kept[0].message.as_str()), (6, "event 5"));

        let mut news = follow(&repo, revision).await.unwrap();
        events().record(EventKind::Drift, "vpc-2", "after a restart".to_owned()).await;
        let event = news.next().await.unwrap().unwrap();
        assert_eq!((event.number, event.subject.as_str()), (KEPT + 6, "vpc-2"));
    }
}
