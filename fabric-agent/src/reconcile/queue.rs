//! Which objects have to be looked at, when, and by whom: each by one task at a time.
//!
//! ```text
//! add ──▶ ready ──▶ running ──Done──▶ (gone)
//!           ▲          │ │
//!           │          │ └─After / Retry──▶ later ──▶ ready
//!           └──dirty───┘   (added while it ran)
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a pass says of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing to do before something changes.
    Done,
    /// Look again after this time.
    After(Duration),
    /// It failed: look again, later each time.
    Retry,
}

const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Objects to look at. Cheap to clone; all clones are one queue.
#[derive(Debug)]
pub(crate) struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: BTreeSet<K>,
    later: BTreeMap<K, Instant>,
    running: BTreeSet<K>,
    dirty: BTreeSet<K>,
    retry_after: HashMap<K, Duration>,
}

impl<K: Clone + Debug + Ord + Hash + Send + 'static> WorkQueue<K> {
    pub(crate) fn new() -> Self {
        let state = State {
            ready: BTreeSet::new(),
            later: BTreeMap::new(),
            running: BTreeSet::new(),
            dirty: BTreeSet::new(),
            retry_after: HashMap::new(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `key` looked at as soon as there is a free place, once more if it is being looked at.
    pub(crate) fn add(&self, key: K) {
        let mut state = self.state();
        if state.running.contains(&key) {
            state.dirty.insert(key);
        } else {
            state.later.remove(&key);
            state.ready.insert(key);
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Looks at what is added, up to `places` objects at a time, until `shutdown`; then waits for
    /// the passes under way.
    pub(crate) async fn run<F, Fut>(&self, places: usize, shutdown: CancellationToken, pass: F)
    where
        F: Fn(K) -> Fut,
        Fut: Future<Output = Next> + Send + 'static,
    {
        let mut tasks: JoinSet<(K, Next)> = JoinSet::new();
        loop {
            let wake_at = self.promote(Instant::now());
            while tasks.len() < places
                && let Some(key) = self.take()
            {
                let work = pass(key.clone());
                tasks.spawn(async move { (key, work.await) });
            }
            let sleep = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // Every arm is cancel safe: what it takes out, it returns.
            let finished = tokio::select! {
                () = shutdown.cancelled() => break,
                finished = tasks.join_next(), if !tasks.is_empty() => finished,
                () = self.shared.changed.notified() => None,
                () = sleep => None,
            };
            match finished {
                Some(Ok((key, next))) => self.finish(key, next),
                Some(Err(error)) if error.is_panic() => {
                    std::panic::resume_unwind(error.into_panic())
                }
                Some(Err(_)) | None => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Moves what is due to `ready`; says when the next one is.
    fn promote(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let due: Vec<K> =
            state.later.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            state.later.remove(&key);
            state.ready.insert(key);
        }
        state.later.values().min().copied()
    }

    fn take(&self) -> Option<K> {
        let mut state = self.state();
        let key = state.ready.pop_first()?;
        state.running.insert(key.clone());
        Some(key)
    }

    fn finish(&self, key: K, next: Next) {
        let mut state = self.state();
        state.running.remove(&key);
        let wait = match next {
            Next::Done => None,
            Next::After(wait) => Some(wait),
            Next::Retry => {
                let wait = state.retry_after.get(&key).copied().unwrap_or(RETRY_MIN);
                state.retry_after.insert(key.clone(), (wait * 2).min(RETRY_MAX));
                Some(wait)
            }
        };
        if next != Next::Retry {
            state.retry_after.remove(&key);
        }
        if state.dirty.remove(&key) {
            state.ready.insert(key);
        } else if let Some(wait) = wait {
            state.later.insert(key, Instant::now() + wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_delays_no_other_and_is_tried_again_later_each_time() {
        let queue = WorkQueue::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (shutdown, log) = (CancellationToken::new(), Arc::clone(&seen));
        let start = Instant::now();
        let pass = move |key: &'static str| {
            let log = Arc::clone(&log);
            async move {
                log.lock().unwrap().push((key, start.elapsed().as_millis()));
                if key == "bad" { Next::Retry } else { Next::Done }
            }
        };
        queue.add("bad");
        queue.add("good");
        let running = queue.clone();
        let token = shutdown.clone();
        let task = tokio::spawn(async move { running.run(1, token, pass).await });
        tokio::time::sleep(Duration::from_secs(2)).await;
        shutdown.cancel();
        task.await.unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.contains(&("good", 0)));
        let bad: Vec<u128> =
            seen.iter().filter(|(key, _)| *key == "bad").map(|(_, at)| *at).collect();
        assert_eq!(bad, [0, 200, 600, 1400]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_added_while_it_runs_is_looked_at_once_more_and_never_twice_at_a_time() {
        let queue = WorkQueue::new();
        let (runs, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let shutdown = CancellationToken::new();
        let (counter, together) = (Arc::clone(&runs), Arc::clone(&at_once));
        let pass = move |_: u8| {
            let (counter, together) = (Arc::clone(&counter), Arc::clone(&together));
            async move {
                assert_eq!(together.fetch_add(1, Ordering::SeqCst), 0);
                tokio::time::sleep(Duration::from_millis(10)).await;
                together.fetch_sub(1, Ordering::SeqCst);
                counter.fetch_add(1, Ordering::SeqCst);
                Next::Done
            }
        };
        let (running, token) = (queue.clone(), shutdown.clone());
        let task = tokio::spawn(async move { running.run(8, token, pass).await });
        queue.add(1);
        settle().await;
        for _ in 0..5 {
            queue.add(1);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        shutdown.cancel();
        task.await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
}
