//! What every engine must do, as checks that it can run.
//!
//! An engine's test hands [`run_all`] a way to make fresh stores; a check panics with the fact
//! that does not hold.

#![expect(clippy::unwrap_used, reason = "a test suite: a panic is its verdict")]

mod leases;
mod transactions;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};

use crate::{Event, EventStream, Revision, Store, Txn, TxnOutcome};

/// A store under test, alone in its world, with the powers of a test over it.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;

    /// Closes the store (the suite holds no handle then) and opens it again with the same data.
    async fn reopen(&mut self);

    /// Lets `by` pass for leases.
    async fn pass_time(&self, by: Duration);
}

/// Runs every check, each on a store of its own.
///
/// # Panics
/// When the engine does not conform; the message says which fact does not hold.
pub async fn run_all<S: Subject>(mut fresh: impl FnMut() -> S) {
    transactions::a_key_is_created_once(&fresh()).await;
    transactions::a_stale_comparison_is_refused(&fresh()).await;
    transactions::several_keys_change_together_or_not_at_all(&fresh()).await;
    transactions::a_transaction_without_effect_makes_no_revision(&fresh()).await;
    transactions::malformed_transactions_are_refused(&fresh()).await;
    transactions::concurrent_increments_lose_nothing(&fresh()).await;
    transactions::a_thousand_creates_at_once_all_arrive(&fresh()).await;
    transactions::prefixes_match_whole_text_only(&fresh()).await;
    transactions::everything_is_there_after_reopening(fresh()).await;
    watching::listing_then_watching_misses_nothing(&fresh()).await;
    watching::deletes_and_new_lives_are_seen(&fresh()).await;
    watching::a_watcher_sees_its_prefix_only_in_order(&fresh()).await;
    watching::a_slow_watcher_gets_everything(&fresh()).await;
    watching::a_transaction_arrives_whole(&fresh()).await;
    watching::history_survives_reopening(fresh()).await;
    watching::compacted_events_are_reported_as_gone(&fresh()).await;
    watching::an_idle_watcher_survives_compaction(&fresh()).await;
    watching::the_future_is_refused(&fresh()).await;
    leases::a_lease_takes_its_keys_along(&fresh()).await;
    leases::keeping_alive_keeps_the_keys(&fresh()).await;
    leases::a_revoked_lease_deletes_at_once(&fresh()).await;
    leases::a_put_without_lease_frees_the_key(&fresh()).await;
    leases::a_lease_with_many_keys_ends_whole(fresh()).await;
    leases::leases_survive_reopening_with_their_whole_time(fresh()).await;
}

async fn commit(store: &dyn Store, txn: Txn) -> Revision {
    let outcome = store.txn(txn).await.unwrap();
    outcome.committed().unwrap_or_else(|| panic!("expected a commit, got {outcome:?}"))
}

async fn conflict(store: &dyn Store, txn: Txn) -> (String, Revision, Revision) {
    match store.txn(txn).await.unwrap() {
        TxnOutcome::Conflict { key, expected, found } => (key, expected, found),
        outcome @ TxnOutcome::Committed { .. } => panic!("expected a conflict, got {outcome:?}"),
    }
}

async fn value(store: &dyn Store, key: &str) -> Option<Vec<u8>> {
    store.get(key).await.unwrap().map(|item| item.value)
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.list(prefix).await.unwrap().items.into_iter().map(|item| item.key).collect()
}

/// "+key=value@revision" or "-key@revision".
fn show(event: &Event) -> String {
    match event {
        Event::Put(item) => {
            let value = String::from_utf8_lossy(&item.value);
            format!("+{}={value}@{}", item.key, item.mod_revision)
        }
        Event::Delete { key, revision } => format!("-{key}@{revision}"),
    }
}

async fn next(watch: &mut EventStream) -> Event {
    // Generous: only a store that never answers meets it.
    tokio::time::timeout(Duration::from_secs(60), watch.next())
        .await
        .expect("an event arrives")
        .expect("a watch does not end")
        .unwrap()
}

/// What has arrived at `watch` by the time that a change made now has arrived.
async fn seen_so_far(store: &dyn Store, watch: &mut EventStream, marker: &str) -> Vec<String> {
    commit(store, Txn::new().put(marker, "marker")).await;
    let mut seen = Vec::new();
    loop {
        let event = next(watch).await;
        if event.key() == marker {
            assert!(watch.next().now_or_never().is_none(), "nothing comes after the newest event");
            return seen;
        }
        seen.push(show(&event));
    }
}
