//! Which IPv6 address of a subnet an interface gets.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;

use crate::{Problem, Reason};

/// Addresses at the start of a subnet that are not given out, as in EC2.
const RESERVED_AT_START: u128 = 4;

/// The IPv6 addresses of one subnet that may be given to interfaces: all but the first four and
/// the last.
#[derive(Debug)]
pub struct AddressPoolV6<'a> {
    /// The subnet's range.
    pub range: Ipv6Network,
    /// What interfaces have now.
    pub taken: &'a BTreeSet<Ipv6Addr>,
}

impl AddressPoolV6<'_> {
    /// Whether `address` may be given out.
    ///
    /// # Errors
    /// A [`Problem`] at `ipv6_addresses` says why not.
    pub fn check(&self, address: Ipv6Addr) -> Result<(), Problem> {
        let range = self.range;
        let at = |reason, message: String| {
            Err(Problem::new(reason, message)
                .at("ipv6_addresses")
                .remedy("choose another address, or leave ipv6_addresses out"))
        };
        if !range.contains(address) {
            let message = format!("{address} is not in the subnet's IPv6 range {range}");
            return at(Reason::InvalidArgument, message);
        }
        if !self.usable().contains(&u128::from(address)) {
            let message = format!(
                "{address} is reserved: the first four and the last address of {range} are kept"
            );
            return at(Reason::InvalidArgument, message);
        }
        if self.taken.contains(&address) {
            return at(Reason::AlreadyExists, format!("{address} is taken"));
        }
        Ok(())
    }

    /// The address whose last 64 bits are `random`, or the nearest free one behind it: random as
    /// in EC2, so that knowing a subnet does not tell its hosts.
    ///
    /// # Errors
    /// [`Reason::ResourceExhausted`] where none is left.
    pub fn near(&self, random: u64) -> Result<Ipv6Addr, Problem> {
        let usable = self.usable();
        let size = usable.end.saturating_sub(usable.start).max(1);
        // More candidates than can be taken: one of them is free, unless all are.
        let tries = u128::try_from(self.taken.len()).unwrap_or(u128::MAX).saturating_add(1);
        (0..tries.min(size))
            .map(|n| usable.start + (u128::from(random) % size + n) % size)
            .map(Ipv6Addr::from)
            .find(|address| !self.taken.contains(address))
            .ok_or_else(|| {
                let message = format!("all addresses of {} are taken", self.range);
                Problem::new(Reason::ResourceExhausted, message).at("subnet_id")
            })
    }

    fn usable(&self) -> std::ops::Range<u128> {
        let first = u128::from(self.range.network());
        let last = u128::from(self.range.broadcast());
        first.saturating_add(RESERVED_AT_START)..last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> Ipv6Network {
        "fd00:1:2:3::/64".parse().unwrap()
    }

    #[test]
    fn addresses_are_random_never_reserved_and_never_taken() {
        let mut taken = BTreeSet::new();
        #[rustfmt::skip]
        let cases = [
            (0,        "fd00:1:2:3::4"),
            (0,        "fd00:1:2:3::5"),
            (0x10,     "fd00:1:2:3::14"),
            // The last usable one, and round again from the first that is free.
            (u64::MAX - 5, "fd00:1:2:3:ffff:ffff:ffff:fffe"),
            (u64::MAX - 5, "fd00:1:2:3::6"),
        ];
        for (random, want) in cases {
            let got = AddressPoolV6 { range: range(), taken: &taken }.near(random).unwrap();
            assert_eq!(got, want.parse::<Ipv6Addr>().unwrap(), "{random}");
            taken.insert(got);
        }
    }

    #[test]
    fn an_address_that_is_asked_for_is_judged() {
        let taken = BTreeSet::from(["fd00:1:2:3::9".parse().unwrap()]);
        let pool = AddressPoolV6 { range: range(), taken: &taken };
        #[rustfmt::skip]
        let cases = [
            ("fd00:1:2:3::8", "ok"),                           ("fd00:1:2:3::9", "is taken"),
            ("fd00:1:2:3::3", "is reserved"),                  ("fd00:1:2:4::8", "is not in"),
            ("fd00:1:2:3:ffff:ffff:ffff:ffff", "is reserved"),
        ];
        for (address, want) in cases {
            let got = match pool.check(address.parse().unwrap()) {
                Ok(()) => "ok".to_owned(),
                Err(problem) => problem.to_string(),
            };
            assert!(got.contains(want), "{address}: {got}");
        }
    }
}
