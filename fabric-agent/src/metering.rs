//! Usage: what was there, how long, and what it costs. The arithmetic is `weft-metering`'s, pure;
//! here are the store, the clock and the host.
//!
//! ```text
//!   pass over an instance ─ note ─┐
//!   Create, Update, Delete ───────┼─▶ Books: meters in the store ──▶ daily sums ──▶ Usage API
//!   every quarter of an hour ─────┘      (one transaction for both)
//! ```
//!
//! What is exact: the begin and end of a guest are its holder's words, so an agent that was away
//! counts nothing twice and misses nothing; other things begin and end in the transaction that makes
//! and removes them. What is bounded: a guest whose end nobody saw (its host lost power, its holder
//! was killed, it switched itself off while no agent ran) is counted up to the last heartbeat, which
//! is [`HEARTBEAT`] old at most when the agent lives; bytes that it sent since they were looked at
//! last, [`COUNT`] at most, are lost with its host.

mod books;
mod days;
mod instances;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use weft_metering::{Day, Filter, GroupBy, Moment, Money, Prices, Usage, usage as report};
use weft_model::Problem;
use weft_store::Txn;

use crate::clock::Clock;
use crate::reconcile::Reconciler;
use crate::repo::{HEARTBEAT as HEARTBEAT_KEY, Instances, RecordOf, Repo, encode};
use books::Books;
pub(crate) use instances::{interfaces, running_item};

/// How often the agent writes down that it lives.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often everything that is there is counted.
const COUNT: Duration = Duration::from_secs(15 * 60);
/// How often sums that are not kept any more are removed.
const TIDY: Duration = Duration::from_secs(24 * 3600);

/// Meters, daily sums and prices.
#[derive(Debug)]
pub(crate) struct Metering {
    repo: Repo,
    clock: Arc<dyn Clock>,
    books: tokio::sync::Mutex<Books>,
    prices: Option<Prices>,
}

/// What an instance costs while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    pub(crate) hour: Money,
    pub(crate) month: Money,
}

/// Reads the operator's price file.
pub(crate) fn read_prices(path: Option<&Path>) -> anyhow::Result<Option<Prices>> {
    let Some(path) = path else { return Ok(None) };
    let what = || format!("cannot use the price file {}", path.display());
    let text = std::fs::read_to_string(path).with_context(what)?;
    Prices::parse(&text).with_context(what).map(Some)
}

impl Metering {
    pub(crate) fn new(repo: Repo, clock: Arc<dyn Clock>, prices: Option<Prices>) -> Self {
        Self { repo, clock, books: tokio::sync::Mutex::default(), prices }
    }

    /// What was used in the days of `filter`, up to this moment.
    pub(crate) async fn usage(
        &self,
        filter: &Filter,
        group_by: &GroupBy,
    ) -> Result<(Usage, Moment), Problem> {
        let changes = {
            let books = self.books.lock().await;
            books.changes()
        };
        let mut closed = BTreeMap::new();
        for day in days::within(filter, self.today()) {
            closed.insert(day, days::read(&self.repo, day, filter).await?);
        }
        let mut books = self.books.lock().await;
        books.load(&self.repo).await?;
        let now = self.clock.moment();
        // What has moved from the meters to the sums meanwhile: nothing does now.
        for day in books.changed_after(changes) {
            if let Some(sums) = closed.get_mut(&day) {
                *sums = days::read(&self.repo, day, filter).await?;
            }
        }
        let open = books.open_now(&now);
        drop(books);
        let closed = closed.into_values().flatten();
        let prices = self.prices.clone().unwrap_or_default();
        Ok((report(closed.chain(open), filter, group_by, &prices), now))
    }

    /// What money is counted in; `None` without a price file.
    pub(crate) fn currency(&self) -> Option<&str> {
        self.prices.as_ref().map(Prices::currency)
    }

    /// What the instance costs while it runs, its own public address included. `None` where that has
    /// no price.
    pub(crate) fn estimate(&self, record: &RecordOf<Instances>) -> Option<Estimate> {
        let prices = self.prices.as_ref()?;
        let mut hour = prices.hour(&running_item(&record.spec))?;
        if record.spec.public_ip.is_some() {
            hour = hour + prices.hour(&weft_metering::Item::PublicIp)?;
        }
        Some(Estimate { hour, month: hour.per_month() })
    }

    /// The day on which usage is counted now.
    pub(crate) fn today(&self) -> Day {
        Day::of(self.clock.now())
    }

    async fn heartbeat(&self, now: &Moment) -> Result<(), Problem> {
        let mut books = self.books.lock().await;
        // The one before this agent's has to be known before it is written over.
        books.load(&self.repo).await?;
        self.repo.commit(Txn::new().put(HEARTBEAT_KEY, encode(now))).await.map(|_| ())
    }
}

/// Writes down that the agent lives, and counts what is there once in a while, until `shutdown`.
pub(crate) async fn run(reconciler: &Arc<Reconciler>, shutdown: CancellationToken) {
    let metering = &reconciler.metering;
    // Not at once: a start has better things to do, and nothing is lost by counting later.
    let (mut counted, mut tidied) = (Some(metering.clock.moment()), None);
    if let Err(problem) = metering.begin_standing(&reconciler.cache).await {
        tracing::warn!(error = %problem, "usage could not be counted");
    }
    loop {
        let now = metering.clock.moment();
        if let Err(problem) = metering.heartbeat(&now).await {
            tracing::warn!(error = %problem, "the agent's sign of life could not be stored");
        }
        if is_due(&mut counted, COUNT, &now) {
            instances::count_all(reconciler).await;
            if let Err(problem) = metering.count_standing().await {
                tracing::warn!(error = %problem, "usage could not be counted");
            }
            if is_due(&mut tidied, TIDY, &now)
                && let Err(problem) = days::forget_old(&metering.repo, metering.today()).await
            {
                tracing::warn!(error = %problem, "old usage could not be removed");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = metering.clock.sleep_from(&now, HEARTBEAT) => {}
        }
    }
}

/// Whether `period` has passed since `last`, which is `now` then.
fn is_due(last: &mut Option<Moment>, period: Duration, now: &Moment) -> bool {
    let passed = last.as_ref().map(|last| u128::from(now.since_ms(last)));
    let due = passed.is_none_or(|passed| passed >= period.as_millis());
    if due {
        *last = Some(now.clone());
    }
    due
}
