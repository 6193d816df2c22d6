//! What is kept of usage: one sum for each day, thing, item and labels.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Day, Entry, Item, Labels};

/// How much of something was used on a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailySum {
    /// When.
    pub day: Day,
    /// The id of the thing.
    pub subject: String,
    /// Of what.
    pub item: Item,
    /// Whose, at that time.
    pub labels: Labels,
    /// Milliseconds or, of [`Item::BytesOut`], bytes.
    pub quantity: u64,
}

/// Where a sum is kept: `DAY/SUBJECT/HASH`, so that a day's sums are beside each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SumKey(String);

impl fmt::Display for SumKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DailySum {
    fn of(subject: &str, entry: Entry) -> Self {
        let Entry { day, item, labels, quantity } = entry;
        Self { day, subject: subject.to_owned(), item, labels, quantity }
    }

    /// Its key: the same for what is to be added up.
    pub fn key(&self) -> SumKey {
        let told_apart = serde_json::to_vec(&(&self.item, &self.labels)).unwrap_or_default();
        let hash = hex::encode(&Sha256::digest(told_apart)[..8]);
        SumKey(format!("{}/{}/{hash}", self.day, self.subject))
    }

    /// `entries` of one thing as sums, those of one key added up.
    pub fn gather(subject: &str, entries: Vec<Entry>) -> BTreeMap<SumKey, Self> {
        let mut sums: BTreeMap<SumKey, Self> = BTreeMap::new();
        for entry in entries {
            let sum = Self::of(subject, entry);
            let quantity = sum.quantity;
            sums.entry(sum.key())
                .and_modify(|known| known.quantity = known.quantity.saturating_add(quantity))
                .or_insert(sum);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use weft_model::Tags;

    use super::*;

    #[test]
    fn what_differs_in_nothing_but_the_quantity_is_one_sum() {
        let entry = |day: &str, team: &str, quantity| Entry {
            day: day.parse().unwrap(),
            item: Item::PublicIp,
            labels: Labels {
                name: None,
                tags: Tags::parse([("team".to_owned(), team.to_owned())]).unwrap(),
            },
            quantity,
        };
        let entries = vec![
            entry("2026-11-22", "a", 5),
            entry("2026-11-22", "a", 7),
            entry("2026-11-22", "b", 1),
            entry("2026-11-23", "a", 2),
        ];
        let sums = DailySum::gather("eip-1", entries);
        let mut quantities: Vec<u64> = sums.values().map(|sum| sum.quantity).collect();
        quantities.sort_unstable();
        assert_eq!(quantities, [1, 2, 12]);
        let keys: Vec<String> = sums.keys().map(ToString::to_string).collect();
        assert!(keys.is_sorted() && keys.iter().all(|key| key.contains("/eip-1/")), "{keys:?}");
    }
}
