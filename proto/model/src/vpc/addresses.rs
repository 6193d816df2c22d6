//! Which address of a subnet is free.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use crate::{Problem, Reason};

/// Why an address cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressProblem {
    /// Not in the range.
    #[error("{address} is not in the subnet's range {range}")]
    Outside {
        /// What was asked for.
        address: Ipv4Addr,
        /// The subnet's range.
        range: Ipv4Network,
    },
    /// The first four and the last of a subnet are kept, as in EC2.
    #[error("{address} is reserved: the first four and the last address of {range} are kept")]
    Reserved {
        /// What was asked for.
        address: Ipv4Addr,
        /// The subnet's range.
        range: Ipv4Network,
    },
    /// The guests' way out has it.
    #[error("{address} is the address of the subnet's router")]
    Router {
        /// What was asked for.
        address: Ipv4Addr,
    },
    /// Somebody has it.
    #[error("{address} is taken")]
    Taken {
        /// What was asked for.
        address: Ipv4Addr,
    },
    /// No address is left.
    #[error("all addresses of {range} are taken")]
    Exhausted {
        /// The subnet's range.
        range: Ipv4Network,
    },
}

impl From<AddressProblem> for Problem {
    fn from(problem: AddressProblem) -> Self {
        let (reason, remedy) = match &problem {
            AddressProblem::Outside { .. }
            | AddressProblem::Reserved { .. }
            | AddressProblem::Router { .. } => {
                (Reason::InvalidArgument, "choose another address, or leave private_ip out")
            }
            AddressProblem::Taken { .. } => {
                (Reason::AlreadyExists, "choose another address, or leave private_ip out")
            }
            AddressProblem::Exhausted { .. } => {
                (Reason::ResourceExhausted, "remove instances or use another subnet")
            }
        };
        Problem::new(reason, problem.to_string()).at("private_ip").remedy(remedy)
    }
}

/// The addresses of one subnet that may be given to interfaces.
#[derive(Debug)]
pub struct AddressPool<'a> {
    /// The subnet's range.
    pub range: Ipv4Network,
    /// The routers of the VPC's subnets: with a bridge they may be anywhere in its range.
    pub routers: &'a BTreeSet<Ipv4Addr>,
    /// What interfaces have now.
    pub taken: &'a BTreeSet<Ipv4Addr>,
}

/// Addresses at the start of a subnet that are not given out, as in EC2.
const RESERVED_AT_START: u32 = 4;

impl AddressPool<'_> {
    /// Whether `address` may be given out.
    ///
    /// # Errors
    /// [`AddressProblem`] says why not.
    pub fn check(&self, address: Ipv4Addr) -> Result<(), AddressProblem> {
        let range = self.range;
        if !range.contains(address) {
            return Err(AddressProblem::Outside { address, range });
        }
        if !self.usable().contains(&u32::from(address)) {
            return Err(AddressProblem::Reserved { address, range });
        }
        if self.routers.contains(&address) {
            return Err(AddressProblem::Router { address });
        }
        if self.taken.contains(&address) {
            return Err(AddressProblem::Taken { address });
        }
        Ok(())
    }

    /// The lowest free address.
    ///
    /// # Errors
    /// [`AddressProblem::Exhausted`].
    pub fn lowest_free(&self) -> Result<Ipv4Addr, AddressProblem> {
        self.usable()
            .map(Ipv4Addr::from)
            .find(|address| !self.taken.contains(address) && !self.routers.contains(address))
            .ok_or(AddressProblem::Exhausted { range: self.range })
    }

    fn usable(&self) -> std::ops::Range<u32> {
        let first = u32::from(self.range.network());
        let last = u32::from(self.range.broadcast());
        first.saturating_add(RESERVED_AT_START)..last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_from_the_fifth_on_and_refused_with_a_reason() {
        let taken = BTreeSet::from(["10.0.0.4".parse().unwrap(), "10.0.0.5".parse().unwrap()]);
        let pool = AddressPool {
            range: "10.0.0.0/29".parse().unwrap(),
            routers: &BTreeSet::new(),
            taken: &taken,
        };
        assert_eq!(pool.lowest_free().unwrap(), Ipv4Addr::new(10, 0, 0, 6));
        #[rustfmt::skip]
        let cases = [
            ("10.0.0.6", "ok"),      ("10.0.0.5", "taken"),   ("10.0.0.7", "reserved"),
            ("10.0.0.0", "reserved"), ("10.0.0.3", "reserved"), ("10.0.1.6", "not in"),
        ];
        for (address, want) in cases {
            let got = match pool.check(address.parse().unwrap()) {
                Ok(()) => "ok".to_owned(),
                Err(problem) => problem.to_string(),
            };
            assert!(got.contains(want), "{address}: {got}");
        }
    }

    #[test]
    fn a_full_subnet_says_so() {
        let taken = (4..7).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
        let pool = AddressPool {
            range: "10.0.0.0/29".parse().unwrap(),
            routers: &BTreeSet::new(),
            taken: &taken,
        };
        assert!(matches!(pool.lowest_free(), Err(AddressProblem::Exhausted { .. })));
    }

    #[test]
    fn a_router_inside_of_the_subnet_keeps_its_address() {
        let routers = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 4)]);
        let range = "10.0.0.0/29".parse().unwrap();
        let pool = AddressPool { range, routers: &routers, taken: &BTreeSet::new() };
        assert_eq!(pool.lowest_free().unwrap(), Ipv4Addr::new(10, 0, 0, 5));
        let refused = pool.check(Ipv4Addr::new(10, 0, 0, 4));
        assert!(matches!(refused, Err(AddressProblem::Router { .. })), "{refused:?}");
    }
}
