//! What is counted of one thing, and up to when it has been.
//!
//! ```text
//!            expect                see(Running)
//!   idle ───────────▶ idle ──────────────────────▶ counting ──▶ advance, relabel ─┐
//!    ▲                                                │  ▲──────────────────────────┘
//!    └──── end, see(Over), see(Nothing) ──────────────┘
//! ```
//!
//! An instance is counted while its guest runs: from the moment that its holder started it to the
//! one at which it saw it end, also where no agent was there. A volume or an address is counted from
//! its making to its removal.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_model::Tags;

use crate::day::lay;
use crate::{Day, Moment};

/// What is counted, with all that its price depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Item {
    /// Milliseconds that a guest ran.
    Instance {
        /// Its type's name; `None` where vCPUs and memory were given.
        instance_type: Option<String>,
        /// Its virtual processors.
        vcpus: u32,
        /// Its memory in MiB.
        memory_mib: u32,
    },
    /// Milliseconds that a volume of a size was there.
    Volume {
        /// The storage pool.
        volume_type: String,
        /// Its size in GiB.
        size_gib: u32,
    },
    /// Milliseconds that a public address was somebody's.
    PublicIp,
    /// Bytes that a guest sent.
    BytesOut,
}

impl Item {
    /// As the API calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Instance { .. } => "instance",
            Self::Volume { .. } => "volume",
            Self::PublicIp => "public_ip",
            Self::BytesOut => "bytes_out",
        }
    }
}

/// What usage is told apart by besides the thing itself, as it was when it was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The thing's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// An amount on a day: milliseconds or, of [`Item::BytesOut`], bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub day: Day,
    /// Of what.
    pub item: Item,
    /// Whose.
    pub labels: Labels,
    /// How much.
    pub quantity: u64,
}

/// A guest as its host sees it. A run is known by its start: no two have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Run {
    /// It runs.
    Running {
        /// Since when.
        started: Moment,
    },
    /// It ran.
    Over {
        /// From when.
        started: Moment,
        /// Up to when; `None` where nobody saw it end.
        ended: Option<Moment>,
    },
    /// Nothing is left of any.
    #[default]
    Nothing,
    /// It is on its way: nothing can be said yet.
    Unknown,
}

/// What a link had sent when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The boot and the network namespace that the link is of.
    pub space: String,
    /// Its index there: a link that is made anew has a higher one, and a counter at nothing.
    pub index: u32,
    /// Its counter.
    pub bytes: u64,
}

/// The open record of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// What is counted, or will be when it runs.
    pub item: Item,
    /// Whose it is.
    pub labels: Labels,
    /// Up to when it is counted; `None` while there is nothing to count.
    since: Option<Moment>,
    /// The start of the last run that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<Moment>,
    /// By interface.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sent: BTreeMap<String, Sent>,
}

impl Meter {
    /// Of something that is counted from now on.
    pub fn counting(item: Item, labels: Labels, now: Moment) -> Self {
        Self { since: Some(now), ..Self::idle(item, labels) }
    }

    /// Of something that is counted when it runs.
    pub fn idle(item: Item, labels: Labels) -> Self {
        Self { item, labels, since: None, run: None, sent: BTreeMap::new() }
    }

    /// Whether something is being counted.
    pub fn is_counting(&self) -> bool {
        self.since.is_some()
    }

    /// The next run will be of this item. One that is being counted goes on as it is.
    pub fn expect(&mut self, item: Item, labels: Labels) {
        if self.since.is_none() {
            (self.item, self.labels) = (item, labels);
        }
    }

    /// Counts up to `now`.
    pub fn advance(&mut self, now: &Moment) -> Vec<Entry> {
        let Some(since) = &mut self.since else { return Vec::new() };
        let length_ms = now.since_ms(since);
        // Where only the wall clock can be compared and it went back, nothing has passed; what comes
        // is counted from here.
        *since = now.clone();
        self.entries(now, length_ms)
    }

    /// Counts up to `now` as it was, and from then on as it is.
    pub fn relabel(&mut self, item: Item, labels: Labels, now: &Moment) -> Vec<Entry> {
        if (&self.item, &self.labels) == (&item, &labels) {
            return Vec::new();
        }
        let entries = self.advance(now);
        (self.item, self.labels) = (item, labels);
        entries
    }

    /// Counts up to `at`, and no further.
    pub fn end(&mut self, at: &Moment) -> Vec<Entry> {
        let Some(since) = self.since.take() else { return Vec::new() };
        let length_ms = at.since_ms(&since);
        self.entries(at, length_ms)
    }

    /// Takes in what the host has of the guest. `last_seen` is when it was known to run last: where
    /// nobody saw it end, it is counted up to there.
    pub fn see(&mut self, run: &Run, last_seen: Option<&Moment>) -> Vec<Entry> {
        let started = match run {
            Run::Running { started } | Run::Over { started, .. } => Some(started),
            Run::Nothing => None,
            Run::Unknown => return Vec::new(),
        };
        let is_known = started.is_some() && started == self.run.as_ref();
        let mut entries = Vec::new();
        if !is_known {
            entries.extend(self.end_unseen(last_seen));
            if let Some(started) = started {
                self.run = Some(started.clone());
                self.since = Some(started.clone());
            }
        }
        if let Run::Over { ended, .. } = run {
            entries.extend(match ended {
                Some(ended) => self.end(ended),
                None => self.end_unseen(last_seen),
            });
        }
        entries
    }

    /// Ends what nobody saw end.
    fn end_unseen(&mut self, last_seen: Option<&Moment>) -> Vec<Entry> {
        let Some(since) = self.since.clone() else { return Vec::new() };
        // A guest does not outlive its boot: a moment of another one says nothing of it.
        let last = last_seen.filter(|last| last.boot == since.boot && since.is_before(last));
        self.end(last.unwrap_or(&since))
    }

    /// Takes in the counter of an interface: of another link all of it, of the known one what came
    /// since. What was read before the last reading says nothing new.
    pub fn sent(&mut self, interface: &str, sent: Sent, now: &Moment) -> Option<Entry> {
        let before = self.sent.get(interface).filter(|before| before.space == sent.space);
        let (index, counted) = before.map_or((0, 0), |before| (before.index, before.bytes));
        let quantity = match sent.index.cmp(&index) {
            Ordering::Less => return None,
            Ordering::Equal => sent.bytes.checked_sub(counted).filter(|more| *more > 0)?,
            Ordering::Greater => sent.bytes,
        };
        self.sent.insert(interface.to_owned(), sent);
        let (day, labels) = (Day::of(now.at), self.labels.clone());
        (quantity > 0).then_some(Entry { day, item: Item::BytesOut, labels, quantity })
    }

    /// Forgets the counters of interfaces that it does not have any more.
    pub fn keep_interfaces(&mut self, keep: impl Fn(&str) -> bool) {
        self.sent.retain(|interface, _| keep(interface));
    }

    fn entries(&self, end: &Moment, length_ms: u64) -> Vec<Entry> {
        let entry = |(day, quantity)| Entry {
            day,
            item: self.item.clone(),
            labels: self.labels.clone(),
            quantity,
        };
        lay(end.at, length_ms).into_iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests;
