//! The pool that public addresses come from.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnetwork::Ipv4Network;

use crate::{Problem, Reason, VpcMode, parse_cidr};

/// Of one range.
const MAX_ADDRESSES: u32 = 1 << 16;

/// Addresses from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
    /// How it was written; the ends of a CIDR range belong to nobody.
    cidr: Option<u8>,
}

/// The addresses that elastic IPs and instances get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicPool {
    ranges: Vec<AddressRange>,
}

impl AddressRange {
    /// Whether it overlaps the range.
    pub fn overlaps(&self, range: Ipv4Network) -> bool {
        self.first <= range.broadcast() && range.network() <= self.last
    }

    /// Whether the address can be given out.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// Refuses what no public address can be.
    fn checked(self) -> Result<Self, String> {
        let count = u32::from(self.last) - u32::from(self.first);
        if count >= MAX_ADDRESSES {
            return Err(format!(
                "{self} is too large: a range has {MAX_ADDRESSES} addresses at most, as a /16 has"
            ));
        }
        match crate::vpc::specials().find(|special| self.overlaps(*special)) {
            Some(special) => Err(format!("{self} overlaps {special}, which no network may use")),
            None => Ok(self),
        }
    }

    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from)
    }
}

impl FromStr for AddressRange {
    type Err = String;

    /// A CIDR range, or `FIRST-LAST`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((first, last)) = text.split_once('-') {
            let parse = |text: &str| text.parse::<Ipv4Addr>().ok();
            return match (parse(first), parse(last)) {
                (Some(first), Some(last)) if first <= last => {
                    Self { first, last, cidr: None }.checked()
                }
                _ => Err(format!(
                    "\"{text}\" is no range: write FIRST-LAST, such as 192.168.1.200-192.168.1.220"
                )),
            };
        }
        let range = parse_cidr("", text).map_err(|problem| match problem.remedy {
            Some(remedy) => format!("{}: {remedy}", problem.message),
            None => problem.message,
        })?;
        Self::from(range).checked()
    }
}

impl From<Ipv4Network> for AddressRange {
    /// Of a network, its first and its last address are nobody's.
    fn from(range: Ipv4Network) -> Self {
        let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
        let ends = u32::from(range.prefix() < 31);
        let cidr = Some(range.prefix());
        Self { first: Ipv4Addr::from(first + ends), last: Ipv4Addr::from(last - ends), cidr }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cidr.map(|prefix| Ipv4Network::new(self.first, prefix)) {
            Some(Ok(range)) => write!(f, "{}/{}", range.network(), range.prefix()),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl serde::Serialize for AddressRange {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for AddressRange {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl PublicPool {
    /// The pool of these ranges.
    pub fn new(ranges: Vec<AddressRange>) -> Self {
        Self { ranges }
    }

    /// Two of its ranges that share addresses.
    pub fn overlapping(&self) -> Option<(AddressRange, AddressRange)> {
        let pairs =
            self.ranges.iter().enumerate().flat_map(|(n, one)| {
                self.ranges.iter().skip(n + 1).map(move |other| (*one, *other))
            });
        let mut overlapping =
            pairs.filter(|(one, other)| one.first <= other.last && other.first <= one.last);
        overlapping.next()
    }

    /// Its ranges.
    pub fn ranges(&self) -> &[AddressRange] {
        &self.ranges
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// Refuses a VPC with addresses of the pool: its guests would take them for each other's, and
    /// the host's routes would lead into two places. On a bridge the LAN may have both.
    ///
    /// # Errors
    /// At `cidr_block`.
    pub fn check_vpc(&self, cidr_block: Ipv4Network, mode: VpcMode) -> Result<(), Problem> {
        match mode {
            VpcMode::Routed => self.check_subnet(cidr_block),
            VpcMode::Bridge => Ok(()),
        }
    }

    /// Refuses a subnet with addresses of the pool: they would be given out twice.
    ///
    /// # Errors
    /// At `cidr_block`.
    pub fn check_subnet(&self, cidr_block: Ipv4Network) -> Result<(), Problem> {
        let ours = self.ranges.iter().find(|range| range.overlaps(cidr_block));
        let Some(ours) = ours else { return Ok(()) };
        let message = format!("{cidr_block} overlaps {ours} of the host's public pool");
        Err(Problem::invalid("cidr_block", message)
            .remedy("choose another range, or give the agent another --public-pool"))
    }

    /// The lowest address that is not `taken`, of the first range that has one.
    ///
    /// # Errors
    /// [`Reason::ResourceExhausted`].
    pub fn lowest_free(&self, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, Problem> {
        let mut all = self.ranges.iter().flat_map(AddressRange::addresses);
        all.find(|address| !taken.contains(address)).ok_or_else(|| {
            let message = format!("every address of the public pool {self} is in use");
            Problem::new(Reason::ResourceExhausted, message).remedy(
                "remove an elastic IP (weft ls elastic-ips), or give the agent a larger \
                 --public-pool",
            )
        })
    }

    /// Refuses an address that is not in the pool, or is taken.
    ///
    /// # Errors
    /// At `address`.
    pub fn check(&self, address: Ipv4Addr, taken: &BTreeSet<Ipv4Addr>) -> Result<(), Problem> {
        if !self.contains(address) {
            let message = format!("{address} is not in the host's public pool {self}");
            return Err(Problem::invalid("address", message)
                .remedy("use an address of the pool, or leave address out"));
        }
        if taken.contains(&address) {
            let message = format!("the public address {address} is in use");
            return Err(Problem::new(Reason::AlreadyExists, message)
                .at("address")
                .remedy("use another one, or leave address out"));
        }
        Ok(())
    }
}

impl fmt::Display for PublicPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<String> = self.ranges.iter().map(ToString::to_string).collect();
        f.write_str(&ranges.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(texts: &[&str]) -> PublicPool {
        PublicPool::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_range_is_written_in_two_ways() {
        for text in ["198.18.0.0/24", "192.0.2.8/32", "192.168.1.200-192.168.1.220"] {
            assert_eq!(text.parse::<AddressRange>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.1/24",
            "10.0.0.9-10.0.0.1",
            "10.0.0.0/8",
            "a-b",
            "10.0.0.0-10.200.0.0",
            "127.0.0.1/32",
            "9.9.9.9-225.0.0.1",
            "224.0.0.0/24",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn two_ranges_share_no_address() {
        assert_eq!(pool(&["192.0.2.0/30", "192.0.2.8-192.0.2.9"]).overlapping(), None);
        let shared = pool(&["192.0.2.0/30", "198.18.0.0/24", "198.18.0.254-198.18.1.9"]);
        let (one, other) = shared.overlapping().unwrap();
        assert_eq!(one.to_string(), "198.18.0.0/24");
        assert_eq!(other.to_string(), "198.18.0.254-198.18.1.9");
    }

    #[test]
    fn the_lowest_free_address_is_given_out() {
        let pool = pool(&["192.0.2.0/30", "192.0.2.100-192.0.2.101"]);
        let mut taken = BTreeSet::new();
        let mut given = Vec::new();
        while let Ok(address) = pool.lowest_free(&taken) {
            given.push(address.octets()[3]);
            taken.insert(address);
        }
        assert_eq!(given, [1, 2, 100, 101]);
        let problem = pool.lowest_free(&taken).unwrap_err();
        assert!(problem.message.contains("192.0.2.0/30, 192.0.2.100-192.0.2.101"), "{problem}");
    }

    #[test]
    fn an_address_outside_is_refused_with_the_pool() {
        let pool = pool(&["192.0.2.0/30"]);
        let taken = BTreeSet::from([Ipv4Addr::new(192, 0, 2, 2)]);
        assert_eq!(pool.check(Ipv4Addr::new(192, 0, 2, 1), &taken), Ok(()));
        for (last, words) in [(0, "public pool 192.0.2.0/30"), (9, "public pool"), (2, "in use")] {
            let problem = pool.check(Ipv4Addr::new(192, 0, 2, last), &taken).unwrap_err();
            assert!(problem.message.contains(words), "{problem}");
            assert_eq!(problem.field.as_deref(), Some("address"));
        }
    }
}
