//! What things cost: the operator's file, and decimal money without floating point.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::Deserialize;

use crate::Item;

/// Hours of an average month, as AWS counts them: 365 days × 24 / 12.
pub const HOURS_PER_MONTH: u32 = 730;
/// Decimals that money is shown with; sums are exact far beyond.
const SHOWN_DECIMALS: u32 = 6;
const MS_PER_HOUR: u32 = 60 * 60 * 1000;

/// An amount of money, in the currency of the price file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(Decimal);

impl fmt::Display for Money {
    /// To six decimals, half to even, without zeros at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounding = RoundingStrategy::MidpointNearestEven;
        self.0.round_dp_with_strategy(SHOWN_DECIMALS, rounding).normalize().fmt(f)
    }
}

impl std::ops::Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Money {
    /// So much of something that costs `self` each.
    fn times(self, quantity: Decimal) -> Self {
        Self(self.0.saturating_mul(quantity))
    }

    /// What something costs in a month that costs `self` in an hour.
    pub fn per_month(self) -> Self {
        self.times(HOURS_PER_MONTH.into())
    }
}

/// Why a price file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPrices {
    /// Not TOML, or with keys that nobody knows.
    #[error("it cannot be read")]
    Form(#[source] Box<toml::de::Error>),
    /// Not an amount.
    #[error("{key}: \"{text}\" is not an amount such as \"0.0125\"")]
    Amount {
        /// Where.
        key: String,
        /// What is there.
        text: String,
    },
    /// Nobody knows what amounts are of.
    #[error("currency is empty: write one, such as \"EUR\"")]
    Currency,
}

/// What the operator charges. All but the currency may be left out: what has no price costs nothing
/// that anybody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    currency: String,
    instance_hour: BTreeMap<String, Money>,
    vcpu_hour: Option<Money>,
    memory_gib_hour: Option<Money>,
    volume_gib_hour: BTreeMap<String, Money>,
    public_ip_hour: Option<Money>,
    gib_out: Option<Money>,
}

/// The file as it is written: amounts are text, so that no float comes in between.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    currency: String,
    #[serde(default)]
    instance_hour: BTreeMap<String, String>,
    vcpu_hour: Option<String>,
    memory_gib_hour: Option<String>,
    #[serde(default)]
    volume_gib_hour: BTreeMap<String, String>,
    public_ip_hour: Option<String>,
    gib_out: Option<String>,
}

impl Prices {
    /// Reads a price file.
    ///
    /// # Errors
    /// It is not TOML, has keys that nobody knows, or amounts that are none.
    pub fn parse(text: &str) -> Result<Self, InvalidPrices> {
        let file: File =
            toml::from_str(text).map_err(|error| InvalidPrices::Form(Box::new(error)))?;
        if file.currency.trim().is_empty() {
            return Err(InvalidPrices::Currency);
        }
        let one = |key: &str, text: Option<String>| text.map(|text| amount(key, &text)).transpose();
        let all = |of: &str, texts: BTreeMap<String, String>| {
            let money = |(name, text): (String, String)| {
                amount(&format!("{of}.\"{name}\""), &text).map(|money| (name, money))
            };
            texts.into_iter().map(money).collect::<Result<_, _>>()
        };
        Ok(Self {
            instance_hour: all("instance_hour", file.instance_hour)?,
            vcpu_hour: one("vcpu_hour", file.vcpu_hour)?,
            memory_gib_hour: one("memory_gib_hour", file.memory_gib_hour)?,
            volume_gib_hour: all("volume_gib_hour", file.volume_gib_hour)?,
            public_ip_hour: one("public_ip_hour", file.public_ip_hour)?,
            gib_out: one("gib_out", file.gib_out)?,
            currency: file.currency,
        })
    }

    /// What amounts are of.
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// What an hour of it costs; of [`Item::BytesOut`] nothing does.
    pub fn hour(&self, item: &Item) -> Option<Money> {
        match item {
            Item::Instance { instance_type, vcpus, memory_mib } => {
                let of_type = instance_type.as_ref().and_then(|name| self.instance_hour.get(name));
                of_type.copied().or_else(|| self.by_size(*vcpus, *memory_mib))
            }
            Item::Volume { volume_type, size_gib } => {
                let price = self.volume_gib_hour.get(volume_type)?;
                Some(price.times((*size_gib).into()))
            }
            Item::PublicIp => self.public_ip_hour,
            Item::BytesOut => None,
        }
    }

    /// Of an instance whose type has no price.
    fn by_size(&self, vcpus: u32, memory_mib: u32) -> Option<Money> {
        let memory_gib = Decimal::from(memory_mib) / Decimal::from(1024);
        let (vcpu, memory) = (self.vcpu_hour?, self.memory_gib_hour?);
        Some(vcpu.times(vcpus.into()) + memory.times(memory_gib))
    }

    /// What so much of it costs: milliseconds or, of [`Item::BytesOut`], bytes.
    pub fn cost(&self, item: &Item, quantity: u64) -> Option<Money> {
        let (price, unit) = match item {
            Item::BytesOut => (self.gib_out?, Decimal::from(1_u32 << 30)),
            timed => (self.hour(timed)?, Decimal::from(MS_PER_HOUR)),
        };
        Some(price.times(Decimal::from(quantity) / unit))
    }
}

fn amount(key: &str, text: &str) -> Result<Money, InvalidPrices> {
    let invalid = || InvalidPrices::Amount { key: key.to_owned(), text: text.to_owned() };
    // Digits and a point: signs, exponents and grouping are misunderstandings.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(invalid());
    }
    Decimal::from_str_exact(text).map(Money).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        currency = "EUR"
        vcpu_hour = "0.01"
        memory_gib_hour = "0.004"
        public_ip_hour = "0.005"
        gib_out = "0.09"
        [instance_hour]
        "w1.nano" = "0.0045"
        [volume_gib_hour]
        standard = "0.0001"
    "#;

    fn instance(name: Option<&str>) -> Item {
        let instance_type = name.map(str::to_owned);
        Item::Instance { instance_type, vcpus: 2, memory_mib: 1536 }
    }

    #[test]
    fn costs_are_exact_decimals() {
        let prices = Prices::parse(FILE).unwrap();
        let volume = |pool: &str| Item::Volume { volume_type: pool.to_owned(), size_gib: 30 };
        #[rustfmt::skip]
        let cases = [
            (instance(Some("w1.nano")),  3_600_000,      Some("0.0045")),
            (instance(Some("w1.nano")),  36_000_000_000, Some("45")),
            (instance(Some("w1.nano")),  1_000,          Some("0.000001")), // 0.00000125
            (instance(Some("other")),    3_600_000,      Some("0.026")),
            (instance(None),             1_800_000,      Some("0.013")),
            (volume("standard"),         7_200_000,      Some("0.006")),
            (volume("fast"),             7_200_000,      None),
            (Item::PublicIp,             3_600_000,      Some("0.005")),
            (Item::BytesOut,             3 << 30,        Some("0.27")),
        ];
        for (item, quantity, want) in cases {
            let cost = prices.cost(&item, quantity).map(|money| money.to_string());
            assert_eq!(cost.as_deref(), want, "{quantity} of {item:?}");
        }
        let month = prices.hour(&instance(Some("w1.nano"))).unwrap().per_month();
        assert_eq!(month.to_string(), "3.285");
    }

    #[test]
    fn what_is_misunderstood_is_refused_and_says_where() {
        let chain = |text: &str| {
            let error = Prices::parse(text).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error} {}", source.unwrap_or_default())
        };
        #[rustfmt::skip]
        let cases = [
            ("currency = \"EUR\"\npublic_ip_hour = 0.005",      "public_ip_hour"),
            ("currency = \"EUR\"\npublic_ip_hour = \"-1\"",     "\"-1\" is not an amount"),
            ("currency = \"EUR\"\npublic_ip_hour = \"1e3\"",    "is not an amount"),
            ("currency = \"EUR\"\npublic_ip_hour = \"1.2.3\"",  "is not an amount"),
            ("currency = \"EUR\"\n[instance_hour]\n\"a.b\" = \"x\"", "instance_hour.\"a.b\""),
            ("currency = \"EUR\"\npublic_ip = \"1\"",           "unknown field `public_ip`"),
            ("public_ip_hour = \"1\"",                          "missing field `currency`"),
            ("currency = \" \"",                                "currency is empty"),
        ];
        for (text, want) in cases {
            let said = chain(text);
            assert!(said.contains(want), "{text}: {said}");
        }
    }
}
