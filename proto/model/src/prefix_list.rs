//! Prefix lists: ranges under one name, which rules refer to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{Problem, Reason};

/// Entries of one list (EC2's limit unless it is raised).
pub const MAX_PREFIX_LIST_ENTRIES: usize = 1000;

crate::image::words! {
    /// Of the ranges of a list.
    AddressFamily {
        /// The older one.
        Ipv4 = "IPv4",
        /// The newer one.
        Ipv6 = "IPv6",
    }
}

/// Ranges of one family, with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixListSpec {
    /// Shown to people; need not be unique.
    pub name: String,
    /// Of every entry; never changes.
    pub address_family: AddressFamily,
    /// What each range is there for.
    pub entries: BTreeMap<IpNetwork, String>,
}

/// Addresses from the first to the last, both included; of one family.
pub type PrefixRange = (IpAddr, IpAddr);

impl PrefixListSpec {
    /// A list of these entries.
    ///
    /// # Errors
    /// At `entries`: a range that is there twice or of the other family, or too many of them.
    pub fn new(
        name: String,
        address_family: AddressFamily,
        entries: impl IntoIterator<Item = (IpNetwork, String)>,
    ) -> Result<Self, Problem> {
        let mut list = Self { name, address_family, entries: BTreeMap::new() };
        for (range, description) in entries {
            if list.entries.insert(range, description).is_some() {
                return Err(Problem::invalid("entries", format!("{range} is in the list twice"))
                    .remedy("keep one of them"));
            }
        }
        list.check().map(|()| list)
    }

    fn check(&self) -> Result<(), Problem> {
        let family = self.address_family;
        let is_v4 = family == AddressFamily::Ipv4;
        if let Some(range) = self.entries.keys().find(|range| range.is_ipv4() != is_v4) {
            let message = format!("{range} is no {family} range, and the list is of {family}");
            return Err(Problem::invalid("entries", message)
                .remedy("make a list of its own for the other family"));
        }
        if self.entries.len() > MAX_PREFIX_LIST_ENTRIES {
            let message = format!("these are {} entries", self.entries.len());
            return Err(Problem::new(Reason::ResourceExhausted, message)
                .at("entries")
                .remedy(format!("a list has at most {MAX_PREFIX_LIST_ENTRIES}; use wider ranges, or a second list")));
        }
        Ok(())
    }

    /// The same addresses as few ranges, in order: what overlaps or touches is one.
    pub fn ranges(&self) -> Vec<PrefixRange> {
        let mut ranges: Vec<(u128, u128)> = self.entries.keys().map(bounds).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        let address = |bits: u128| match self.address_family {
            // The bits came from 32.
            AddressFamily::Ipv4 => Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
            AddressFamily::Ipv6 => IpAddr::V6(Ipv6Addr::from(bits)),
        };
        merged.into_iter().map(|(first, last)| (address(first), address(last))).collect()
    }
}

fn bounds(range: &IpNetwork) -> (u128, u128) {
    match range {
        IpNetwork::V4(range) => {
            (u32::from(range.network()).into(), u32::from(range.broadcast()).into())
        }
        IpNetwork::V6(range) => {
            let first = u128::from(range.network());
            let host_bits = u128::MAX.checked_shr(range.prefix().into()).unwrap_or(0);
            (first, first | host_bits)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(address_family: AddressFamily, ranges: &[&str]) -> PrefixListSpec {
        let entries = ranges.iter().map(|text| (text.parse().unwrap(), String::new())).collect();
        PrefixListSpec { name: "office".to_owned(), address_family, entries }
    }

    #[test]
    fn what_overlaps_or_touches_becomes_one_range() {
        use AddressFamily::{Ipv4, Ipv6};
        #[rustfmt::skip]
        let cases: [(AddressFamily, &[&str], &str); 6] = [
            (Ipv4, &[],                                                "" ),
            (Ipv4, &["10.0.0.0/24", "10.0.1.0/24"],                    "10.0.0.0-10.0.1.255"),
            (Ipv4, &["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32"],     "10.0.0.0-10.255.255.255 192.0.2.7-192.0.2.7"),
            (Ipv4, &["0.0.0.0/0", "255.255.255.255/32"],               "0.0.0.0-255.255.255.255"),
            (Ipv6, &["2001:db8::/33", "2001:db8:8000::/33"],           "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            (Ipv6, &["::/0", "ffff::/16"],                             "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ];
        for (family, ranges, want) in cases {
            let got: Vec<_> = list(family, ranges)
                .ranges()
                .into_iter()
                .map(|(first, last)| format!("{first}-{last}"))
                .collect();
            assert_eq!(got.join(" "), want, "{ranges:?}");
        }
    }

    #[test]
    fn a_range_twice_or_of_the_other_family_and_the_1001st_are_refused() {
        let once = ("10.0.0.0/8".parse().unwrap(), String::new());
        let new = |entries| PrefixListSpec::new("it".to_owned(), AddressFamily::Ipv4, entries);
        assert!(new(vec![once.clone()]).is_ok());
        let twice = new(vec![once.clone(), once]).unwrap_err();
        assert_eq!(twice.message, "10.0.0.0/8 is in the list twice");
        let other = list(AddressFamily::Ipv6, &["10.0.0.0/8"]).check().unwrap_err();
        assert!(other.message.contains("10.0.0.0/8 is no IPv6 range"), "{}", other.message);
        let mut many = list(AddressFamily::Ipv4, &[]);
        for n in 0..=1000_u32 {
            let range = IpNetwork::new(Ipv4Addr::from(n * 256).into(), 24).unwrap();
            many.entries.insert(range, String::new());
        }
        assert_eq!(many.check().unwrap_err().message, "these are 1001 entries");
    }

    proptest! {
        #[test]
        fn the_same_addresses_are_in_the_ranges_and_nothing_touches(
            ranges in proptest::collection::vec((any::<u16>(), 18_u8..=32), 0..12),
            probes in proptest::collection::vec(any::<u16>(), 20),
        ) {
            let address = |low: u16| IpAddr::from(Ipv4Addr::from(0x0a00_0000 | u32::from(low)));
            let entries: BTreeMap<IpNetwork, String> = ranges
                .iter()
                .map(|(low, prefix)| {
                    let range = IpNetwork::new(address(*low), *prefix).unwrap();
                    (IpNetwork::new(range.network(), *prefix).unwrap(), String::new())
                })
                .collect();
            let list = PrefixListSpec {
                name: String::new(), address_family: AddressFamily::Ipv4, entries,
            };
            let merged = list.ranges();
            for low in probes {
                let probe = address(low);
                let listed = list.entries.keys().any(|range| range.contains(probe));
                let inside = merged.iter().any(|(first, last)| (first..=last).contains(&&probe));
                prop_assert_eq!(listed, inside);
            }
            for pair in merged.windows(2) {
                let (IpAddr::V4(end), IpAddr::V4(next)) = (pair[0].1, pair[1].0) else { panic!() };
                prop_assert!(u32::from(end) + 1 < u32::from(next), "{:?}", pair);
            }
        }
    }
}
