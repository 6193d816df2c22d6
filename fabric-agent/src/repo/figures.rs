//! How many transactions the store carried out, and how long they took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Since the agent's start.
#[derive(Debug, Default)]
pub(crate) struct StoreFigures {
    transactions: AtomicU64,
    failures: AtomicU64,
    micros: AtomicU64,
}

impl StoreFigures {
    pub(super) fn note(&self, took: Duration, failed: bool) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(failed), Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Transactions, those that failed, and the microseconds that all of them took.
    pub(crate) fn get(&self) -> (u64, u64, u64) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (get(&self.transactions), get(&self.failures), get(&self.micros))
    }
}
