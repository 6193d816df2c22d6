//! The meters, in memory and in the store: one transaction moves a meter on and adds what it moved
//! over to the daily sums.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use weft_metering::{DailySum, Entry, Meter, Moment};
use weft_model::{InstanceId, Problem};
use weft_store::{Revision, Txn};

use crate::repo::{HEARTBEAT, Repo, USAGE_DAYS, USAGE_OPEN, decode, encode, store_problem};

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
pub(super) struct Draft(Vec<Page>);

#[derive(Debug)]
struct Page {
    key: MeterKey,
    /// `None`: the meter goes.
    meter: Option<Meter>,
    entries: Vec<Entry>,
}

impl Draft {
    /// The meter is `meter` from now on, and `entries` were counted.
    pub(super) fn put(&mut self, key: MeterKey, meter: Option<Meter>, entries: Vec<Entry>) {
        self.0.push(Page { key, meter, entries });
    }
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
        let mut meters = Vec::new();
        for Page { key, meter, entries } in draft.0 {
            for (sum_key, mut sum) in DailySum::gather(key.subject(), entries) {
                let sum_key = format!("{USAGE_DAYS}{sum_key}");
                let stored = repo.read::<DailySum>(&sum_key).await?;
                let before = stored.as_ref().map_or(0, |stored| stored.value.quantity);
                sum.quantity = sum.quantity.saturating_add(before);
                txn = match stored {
                    Some(stored) => txn.when_at(&sum_key, stored.revision),
                    None => txn.when_absent(&sum_key),
                };
                txn = txn.put(sum_key, encode(&sum));
            }
            txn = match &meter {
                Some(meter) => txn.put(key.in_store(), encode(meter)),
                None => txn.delete(key.in_store()),
            };
            meters.push((key, meter));
        }
        // Until its end is known the memory may be wrong: whoever is next reads the store.
        self.loaded = false;
        let revision = repo.commit(txn).await?;
        for (key, meter) in meters {
            match meter {
                Some(meter) => self.meters.insert(key, meter),
                None => self.meters.remove(&key),
            };
        }
        self.loaded = true;
        Ok(revision)
    }
}
