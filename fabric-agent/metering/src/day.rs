//! Days in UTC, and how a length of time is put on them.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use weft_model::Timestamp;

/// Days that one length is put on at most: a transaction of the store is bounded.
const MAX_DAYS: usize = 40;
/// Milliseconds of a day. UTC as machines count it has no others.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The year of a clock that was never set.
const FIRST_YEAR: i16 = 1970;

/// A calendar day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(Date);

/// Text that is no day.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is not a day such as 2026-11-22")]
pub struct InvalidDay(pub String);

impl Day {
    /// The day that `at` is in.
    pub fn of(at: Timestamp) -> Self {
        Self(at.to_zoned(TimeZone::UTC).date())
    }

    /// The first day of its month.
    pub fn first_of_month(self) -> Self {
        Self(self.0.first_of_month())
    }

    /// The day that many days before; the calendar's first where there is none.
    pub fn back(self, days: u32) -> Self {
        let back = self.0.checked_sub(jiff::Span::new().days(i64::from(days)));
        Self(back.unwrap_or(Date::MIN))
    }

    /// The day that many days after; the calendar's last where there is none.
    pub fn ahead(self, days: u32) -> Self {
        let ahead = self.0.checked_add(jiff::Span::new().days(i64::from(days)));
        Self(ahead.unwrap_or(Date::MAX))
    }

    /// The days from this one to `last`, both included.
    pub fn to(self, last: Self) -> impl Iterator<Item = Self> {
        self.0.series(jiff::Span::new().days(1)).map(Self).take_while(move |day| *day <= last)
    }

    /// What the days before this one begin with, as text, back to 1970 and the nearest first: days of
    /// its month, months of its year, years. Few prefixes, each of them of few days or long ago.
    pub fn prefixes_before(self) -> impl Iterator<Item = String> {
        let (year, month, day) = (self.0.year(), self.0.month(), self.0.day());
        let days = (1..day).rev().map(move |day| format!("{year:04}-{month:02}-{day:02}"));
        let months = (1..month).rev().map(move |month| format!("{year:04}-{month:02}-"));
        let years = (FIRST_YEAR..year).rev().map(|year| format!("{year:04}-"));
        days.chain(months).chain(years)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Day {
    type Err = InvalidDay;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Nothing but the canonical form: text sorts as days do.
        let parsed = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
        parsed.map(Self).ok_or_else(|| InvalidDay(text.to_owned()))
    }
}

/// Puts the `length_ms` before `end` on days: each with its part, the parts sum up to the length.
///
/// What is longer than forty days, an agent having been away for so long, has its rest on the first.
pub fn lay(end: Timestamp, length_ms: u64) -> Vec<(Day, u64)> {
    let (mut end_ms, mut rest) = (end.as_millisecond(), length_ms);
    let mut parts = Vec::new();
    while rest > 0 && parts.len() < MAX_DAYS {
        let Ok(last) = Timestamp::from_millisecond(end_ms.saturating_sub(1)) else { break };
        let day_began = last.as_millisecond().div_euclid(DAY_MS) * DAY_MS;
        let part = rest.min(u64::try_from(end_ms - day_began).unwrap_or(rest));
        parts.push((Day::of(last), part));
        (end_ms, rest) = (day_began, rest - part);
    }
    match parts.last_mut() {
        Some((_, first)) => *first += rest,
        None if rest > 0 => parts.push((Day::of(end), rest)),
        None => {}
    }
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn laid(end: &str, length_ms: u64) -> String {
        let parts = lay(end.parse().unwrap(), length_ms);
        parts.iter().map(|(day, ms)| format!("{day}:{ms} ")).collect()
    }

    #[test]
    fn a_length_is_split_at_midnight_utc() {
        #[rustfmt::skip]
        let cases = [
            ("2026-11-22T10:00:00Z", 3_600_000,       "2026-11-22:3600000 "),
            ("2026-11-22T00:00:00Z", 1_000,           "2026-11-21:1000 "),
            ("2026-11-22T00:00:01Z", 3_000,           "2026-11-21:2000 2026-11-22:1000 "),
            ("2026-03-01T06:00:00Z", 2 * 86_400_000,  "2026-02-27:64800000 2026-02-28:86400000 2026-03-01:21600000 "),
            ("2026-11-22T10:00:00Z", 0,               ""),
        ];
        for (end, length_ms, want) in cases {
            assert_eq!(laid(end, length_ms), want, "{length_ms} before {end}");
        }
    }

    #[test]
    fn only_the_canonical_form_is_a_day() {
        assert_eq!("2026-11-02".parse::<Day>().unwrap().to_string(), "2026-11-02");
        for text in ["2026-11-2", "20261102", "2026-02-30", "yesterday", "", "2026-11-02T00:00"] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
        let day: Day = "2026-03-01".parse().unwrap();
        assert_eq!(day.back(1).to_string(), "2026-02-28");
        assert_eq!(day.back(1).to(day.ahead(1)).count(), 3);
        assert_eq!(day.to(day.back(1)).count(), 0);
        let (first, last) = (Day(Date::MIN), Day(Date::MAX));
        assert_eq!((first.back(1), last.ahead(1)), (first, last));
        assert_eq!(last.to(last).count(), 1);
    }

    #[test]
    fn few_prefixes_are_of_all_days_before_one_and_of_no_other() {
        for text in ["2026-11-22", "2026-01-01", "1970-01-01", "2027-03-31"] {
            let day: Day = text.parse().unwrap();
            let prefixes: Vec<String> = day.prefixes_before().collect();
            assert!(prefixes.len() < 30 + 11 + 60, "{prefixes:?}");
            let first: Day = "1970-01-01".parse().unwrap();
            for other in first.to(day.ahead(800)) {
                let text = other.to_string();
                let found = prefixes.iter().filter(|prefix| text.starts_with(*prefix)).count();
                assert_eq!(found, usize::from(other < day), "{other} before {day}");
            }
        }
    }

    proptest! {
        #[test]
        fn parts_sum_up_and_no_day_but_the_first_of_many_has_more_than_24_hours(
            end_ms in 0_i64..4_000_000_000_000, length_ms in 0_u64..10_000_000_000,
        ) {
            let parts = lay(Timestamp::from_millisecond(end_ms).unwrap(), length_ms);
            prop_assert_eq!(parts.iter().map(|(_, ms)| ms).sum::<u64>(), length_ms);
            let whole = parts.iter().skip(usize::from(parts.len() == MAX_DAYS));
            prop_assert!(whole.clone().all(|(_, ms)| *ms > 0 && *ms <= 86_400_000));
            prop_assert!(parts.len() <= MAX_DAYS);
            prop_assert!(parts.is_sorted_by(|a, b| a.0 < b.0));
        }
    }
}
