//! The meters, in memory and in the store: one transaction moves a meter on and adds what it moved
//! over to the daily sums.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures::future::try_join_all;
use weft_metering::{DailySum, Day, Entry, Meter, Moment, SumKey};
use weft_model::{InstanceId, Problem};
use weft_store::{MAX_TXN_BYTES, MAX_TXN_OPS, Revision, Txn};

use crate::repo::{
    HEARTBEAT, Repo, USAGE_DAYS, USAGE_OPEN, decode, encode, overtaken, store_problem,
};

/// What the number in a sum can grow by when it is added to, in bytes: a `u64`.
const MORE_DIGITS: usize = 20;

/// Which meter: `KIND/ID`. A thing can have several: an instance runs, and has a public address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MeterKey(String);

impl MeterKey {
    pub(super) fn of_instance(id: &InstanceId) -> Self {
        Self(format!("instances/{id}"))
    }

    /// Of something that is counted as long as it is there.
    pub(super) fn of_standing(kind: &str, id: &impl fmt::Display) -> Self {
        Self(format!("{kind}/{id}"))
    }

    fn subject(&self) -> &str {
        self.0.split_once('/').map_or(self.0.as_str(), |(_, subject)| subject)
    }

    /// Whether it is of something that is counted as long as it is there.
    pub(super) fn is_standing(&self) -> bool {
        !self.0.starts_with("instances/")
    }

    fn in_store(&self) -> String {
        format!("{USAGE_OPEN}{}", self.0)
    }
}

/// What one transaction does to the books.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// `None`: the meter goes.
    meters: Vec<(MeterKey, Option<Meter>)>,
    /// What is added to daily sums.
    sums: BTreeMap<SumKey, DailySum>,
    bytes: usize,
}

impl Draft {
    /// The meter is `meter` from now on, and `entries` were counted.
    pub(super) fn put(&mut self, key: MeterKey, meter: Option<Meter>, entries: Vec<Entry>) {
        let sums = DailySum::gather(key.subject(), entries);
        self.add(key, meter, sums);
    }

    /// The same, unless a transaction has no room for it beside what is there: false then.
    pub(super) fn put_if_room(&mut self, key: MeterKey, meter: Meter, entries: Vec<Entry>) -> bool {
        let sums = DailySum::gather(key.subject(), entries);
        let ops = self.meters.len() + self.sums.len() + 1 + sums.len();
        let has_room =
            ops <= MAX_TXN_OPS && self.bytes + size(Some(&meter), &sums) <= MAX_TXN_BYTES;
        if has_room || self.is_empty() {
            self.add(key, Some(meter), sums);
            return true;
        }
        false
    }

    pub(super) fn is_empty(&self) -> bool {
        self.meters.is_empty()
    }

    fn add(&mut self, key: MeterKey, meter: Option<Meter>, sums: BTreeMap<SumKey, DailySum>) {
        self.bytes += size(meter.as_ref(), &sums);
        self.meters.push((key, meter));
        for (key, sum) in sums {
            let more = sum.quantity;
            self.sums
                .entry(key)
                .and_modify(|known| known.quantity = known.quantity.saturating_add(more))
                .or_insert(sum);
        }
    }
}

/// What a meter and its sums take of a transaction, in bytes.
fn size(meter: Option<&Meter>, sums: &BTreeMap<SumKey, DailySum>) -> usize {
    let sums = sums.values().map(|sum| encode(sum).len() + MORE_DIGITS);
    meter.map_or(0, |meter| encode(meter).len()) + sums.sum::<usize>()
}

/// The meters, as the store has them.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Whether `meters` are what the store has.
    loaded: bool,
    meters: BTreeMap<MeterKey, Meter>,
    /// The last sign of life of the agent before this one; known once anything is.
    former: Option<Option<Moment>>,
    /// Whose guests this agent has seen running: it hears of their end.
    pub(super) seen: BTreeSet<InstanceId>,
    /// Transactions that sums were, or were to be, changed by.
    changes: u64,
    /// The last of them by the day of the sums.
    changed: BTreeMap<Day, u64>,
}

impl Books {
    /// Reads the store, the first time and after a write whose end is not known.
    pub(super) async fn load(&mut self, repo: &Repo) -> Result<(), Problem> {
        if self.former.is_none() {
            let stored = repo.read::<Moment>(HEARTBEAT).await?;
            self.former = Some(stored.map(|stored| stored.value));
        }
        if self.loaded {
            return Ok(());
        }
        let listing = repo.store().list(USAGE_OPEN).await.map_err(store_problem)?;
        let read = |item: &weft_store::Item| {
            let key = item.key.strip_prefix(USAGE_OPEN).unwrap_or(&item.key).to_owned();
            decode::<Meter>(&item.key, &item.value).map(|meter| (MeterKey(key), meter))
        };
        self.meters = listing.items.iter().map(read).collect::<Result<_, _>>()?;
        self.loaded = true;
        Ok(())
    }

    pub(super) fn get(&self, key: &MeterKey) -> Option<&Meter> {
        self.meters.get(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &MeterKey> {
        self.meters.keys()
    }

    /// When the guest of an instance was known to run last, if `now` it is found not to.
    pub(super) fn last_seen<'a>(&'a self, id: &InstanceId, now: &'a Moment) -> Option<&'a Moment> {
        if self.seen.contains(id) {
            return Some(now);
        }
        self.former.as_ref().and_then(Option::as_ref)
    }

    /// What is counted on no day yet: nothing is written.
    pub(super) fn open_now(&self, now: &Moment) -> Vec<DailySum> {
        let open = self.meters.iter().flat_map(|(key, meter)| {
            let entries = meter.clone().advance(now);
            DailySum::gather(key.subject(), entries).into_values()
        });
        open.collect()
    }

    /// How often sums were changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The days whose sums may have changed after there were so many changes.
    pub(super) fn changed_after(&self, changes: u64) -> Vec<Day> {
        let changed = self.changed.iter().filter(|(_, last)| **last > changes);
        changed.map(|(day, _)| *day).collect()
    }

    /// Carries out `txn`, and with it what `draft` says.
    ///
    /// # Errors
    /// The store's, and that a condition of `txn` did not hold; nothing is counted then.
    pub(super) async fn commit(
        &mut self,
        repo: &Repo,
        draft: Draft,
        txn: Txn,
    ) -> Result<Revision, Problem> {
        let mut txn = txn;
        let Draft { meters, sums, .. } = draft;
        if !sums.is_empty() {
            self.changes += 1;
        }
        let read = sums.keys().map(async |key| {
            let key = format!("{USAGE_DAYS}{key}");
            let stored = repo.read::<DailySum>(&key).await?;
            Ok::<_, Problem>((key, stored))
        });
        let stored = try_join_all(read).await?;
        for ((key, stored), mut sum) in stored.into_iter().zip(sums.into_values()) {
            self.changed.insert(sum.day, self.changes);
            let before = stored.as_ref().map_or(0, |stored| stored.value.quantity);
            sum.quantity = sum.quantity.saturating_add(before);
            txn = match stored {
                Some(stored) => txn.when_at(&key, stored.revision),
                None => txn.when_absent(&key),
            };
            txn = txn.put(key, encode(&sum));
        }
        for (key, meter) in &meters {
            txn = match meter {
                Some(meter) => txn.put(key.in_store(), encode(meter)),
                None => txn.delete(key.in_store()),
            };
        }
        // Until its end is known the memory may be wrong: whoever is next reads the store.
        self.loaded = false;
        let outcome = repo.try_commit(txn).await?;
        self.loaded = true;
        // Where a condition did not hold nothing was written.
        let revision = outcome.map_err(|key| overtaken(&key))?;
        for (key, meter) in meters {
            match meter {
                Some(meter) => self.meters.insert(key, meter),
                None => self.meters.remove(&key),
            };
        }
        Ok(revision)
    }
}
