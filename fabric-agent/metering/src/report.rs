//! Usage of a range of days, grouped as asked, with its cost.

use std::collections::BTreeMap;
use std::str::FromStr;

use rust_decimal::Decimal;
use weft_model::Tags;

use crate::{DailySum, Day, Item, Money, Prices};

/// Decimals of amounts that are no whole numbers of their unit.
const DECIMALS: u32 = 6;

/// Which usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The first day.
    pub from: Day,
    /// The last day.
    pub to: Day,
    /// Only of the thing with this id.
    pub subject: Option<String>,
    /// Only of what had these tags.
    pub tags: Tags,
}

impl Filter {
    /// Whether a sum is asked for.
    pub fn admits(&self, sum: &DailySum) -> bool {
        (self.from..=self.to).contains(&sum.day)
            && self.subject.as_ref().is_none_or(|subject| *subject == sum.subject)
            && sum.labels.tags.contains_all(&self.tags)
    }
}

/// What rows are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// Each thing.
    #[default]
    Resource,
    /// Each day.
    Day,
    /// All that is alike.
    Item,
    /// Each value of a tag.
    Tag(String),
}

/// Text that is no grouping.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is none of resource, day, item and tag:KEY")]
pub struct InvalidGroupBy(String);

impl FromStr for GroupBy {
    type Err = InvalidGroupBy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" | "resource" => Ok(Self::Resource),
            "day" => Ok(Self::Day),
            "item" => Ok(Self::Item),
            other => match other.strip_prefix("tag:") {
                Some(key) if !key.is_empty() => Ok(Self::Tag(key.to_owned())),
                _ => Err(InvalidGroupBy(text.to_owned())),
            },
        }
    }
}

impl GroupBy {
    /// Where a sum belongs. What lacks the tag has the empty text.
    fn group(&self, sum: &DailySum) -> String {
        match self {
            Self::Resource => sum.subject.clone(),
            Self::Day => sum.day.to_string(),
            Self::Item => String::new(),
            Self::Tag(key) => sum.labels.tags.get(key).unwrap_or_default().to_owned(),
        }
    }
}

/// How much of one item a group used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The thing's id, the day, or the tag's value.
    pub group: String,
    /// The thing's newest name, where rows are of things.
    pub name: Option<String>,
    /// Of what.
    pub item: Item,
    /// How much, in `unit`, as a decimal number.
    pub amount: String,
    /// What is counted.
    pub unit: &'static str,
    /// What it costs; `None` where it has no price.
    pub cost: Option<Money>,
}

/// What was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By group, then item.
    pub rows: Vec<Row>,
    /// What all that has a price costs.
    pub cost: Money,
    /// Whether something has no price.
    pub unpriced: bool,
}

/// The sums of one row.
#[derive(Default)]
struct Group {
    quantity: u128,
    /// Where rows are of resources: the newest day, and what the resource was called on it.
    newest: Option<(Day, Option<String>)>,
}

/// Adds up those of `sums` that are asked for.
pub fn usage(
    sums: impl IntoIterator<Item = DailySum>,
    filter: &Filter,
    group_by: &GroupBy,
    prices: &Prices,
) -> Usage {
    let mut groups: BTreeMap<(String, Item), Group> = BTreeMap::new();
    for sum in sums.into_iter().filter(|sum| filter.admits(sum)) {
        let Group { quantity, newest } =
            groups.entry((group_by.group(&sum), sum.item)).or_default();
        *quantity += u128::from(sum.quantity);
        if *group_by == GroupBy::Resource && newest.as_ref().is_none_or(|(day, _)| *day <= sum.day)
        {
            *newest = Some((sum.day, sum.labels.name));
        }
    }
    let mut usage = Usage::default();
    for ((group, item), Group { quantity, newest }) in groups {
        let quantity = u64::try_from(quantity).unwrap_or(u64::MAX);
        let cost = prices.cost(&item, quantity);
        usage.cost = usage.cost + cost.unwrap_or_default();
        usage.unpriced |= cost.is_none();
        let (amount, unit) = in_its_unit(&item, quantity);
        let name = newest.and_then(|(_, name)| name);
        usage.rows.push(Row { group, name, item, amount, unit, cost });
    }
    usage
}

fn in_its_unit(item: &Item, quantity: u64) -> (String, &'static str) {
    let quantity = Decimal::from(quantity);
    let hours = |times: u32| quantity * Decimal::from(times) / Decimal::from(3_600_000);
    let (amount, unit) = match item {
        Item::Instance { .. } => (quantity / Decimal::from(1000), "seconds"),
        Item::Volume { size_gib, .. } => (hours(*size_gib), "GiB-hours"),
        Item::PublicIp => (hours(1), "hours"),
        Item::BytesOut => (quantity, "bytes"),
    };
    (amount.round_dp(DECIMALS).normalize().to_string(), unit)
}

#[cfg(test)]
mod tests {
    use crate::Labels;

    use super::*;

    fn sum(day: &str, subject: &str, team: &str, item: Item, quantity: u64) -> DailySum {
        let tags = Tags::parse([("team".to_owned(), team.to_owned())]).unwrap();
        let name = Some(format!("{subject} on {day}"));
        let labels = Labels { name, tags };
        DailySum { day: day.parse().unwrap(), subject: subject.to_owned(), item, labels, quantity }
    }

    fn nano() -> Item {
        Item::Instance { instance_type: Some("w1.nano".to_owned()), vcpus: 1, memory_mib: 128 }
    }

    fn all() -> Vec<DailySum> {
        let volume = Item::Volume { volume_type: "standard".to_owned(), size_gib: 4 };
        vec![
            sum("2026-11-20", "i-1", "a", nano(), 3_600_000),
            sum("2026-11-21", "i-1", "a", nano(), 1_500),
            sum("2026-11-21", "i-1", "b", nano(), 1_000),
            sum("2026-11-21", "i-1", "b", Item::BytesOut, 5_000),
            sum("2026-11-21", "vol-1", "b", volume, 1_800_000),
            sum("2026-11-22", "i-2", "b", nano(), 7_000),
        ]
    }

    fn shown(from: &str, to: &str, group_by: &str, tags: &[(&str, &str)]) -> Vec<String> {
        let text = "currency = \"EUR\"\ngib_out = \"1\"\n[instance_hour]\n\"w1.nano\" = \"3.6\"";
        let prices = Prices::parse(text).unwrap();
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let filter = Filter {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            subject: None,
            tags: Tags::parse(tags).unwrap(),
        };
        let usage = usage(all(), &filter, &group_by.parse().unwrap(), &prices);
        let row = |row: &Row| {
            let cost = row.cost.map_or_else(|| "-".to_owned(), |money| money.to_string());
            format!("{} {} {} {} {cost}", row.group, row.item.kind(), row.amount, row.unit)
        };
        let total = format!("{} {}", usage.cost, usage.unpriced);
        usage.rows.iter().map(row).chain([total]).collect()
    }

    #[test]
    fn rows_are_grouped_as_asked_and_add_up() {
        assert_eq!(
            shown("2026-11-20", "2026-11-22", "resource", &[]),
            [
                "i-1 instance 3602.5 seconds 3.6025",
                "i-1 bytes_out 5000 bytes 0.000005",
                "i-2 instance 7 seconds 0.007",
                "vol-1 volume 2 GiB-hours -",
                "3.609505 true",
            ]
        );
        assert_eq!(
            shown("2026-11-21", "2026-11-21", "tag:team", &[]),
            [
                "a instance 1.5 seconds 0.0015",
                "b instance 1 seconds 0.001",
                "b volume 2 GiB-hours -",
                "b bytes_out 5000 bytes 0.000005",
                "0.002505 true",
            ]
        );
        assert_eq!(
            shown("2026-11-20", "2026-11-22", "item", &[("team", "a")]),
            [" instance 3601.5 seconds 3.6015", "3.6015 false"]
        );
        assert_eq!(shown("2026-01-01", "2026-01-31", "day", &[]), ["0 false"]);
        assert!("tag:".parse::<GroupBy>().is_err() && "month".parse::<GroupBy>().is_err());
    }

    #[test]
    fn a_things_name_is_its_newest() {
        let filter = Filter {
            from: "2026-11-20".parse().unwrap(),
            to: "2026-11-21".parse().unwrap(),
            subject: Some("i-1".to_owned()),
            tags: Tags::default(),
        };
        let usage = usage(all(), &filter, &GroupBy::Resource, &Prices::default());
        assert_eq!(usage.rows[0].name.as_deref(), Some("i-1 on 2026-11-21"));
    }
}
