//! Who sits where: the address, MAC and tap name of every network interface, also of those that
//! are parts of instances.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnetwork::{Ipv4Network, Ipv6Network};
use weft_model::{
    AddressPool, AddressPoolV6, Interface, InterfaceId, LinkName, MacAddr, Problem, Reason,
    SubnetId,
};

/// What one interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) subnet_id: SubnetId,
    pub(crate) address: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) link: LinkName,
    /// No two interfaces have the same one: those on bridges may meet on one LAN.
    pub(crate) mac: MacAddr,
}

/// Which IPv6 address of a range.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SeatV6 {
    /// The first free one from a random place on.
    Near(Ipv6Network, u64),
    /// This one.
    Exactly(Ipv6Network, Ipv6Addr),
}

/// What is asked for on behalf of a new interface.
#[derive(Clone, Debug)]
pub(crate) struct SeatWish {
    pub(crate) subnet_id: SubnetId,
    pub(crate) range: Ipv4Network,
    /// Addresses that no interface of the VPC may have, see [`AddressPool`].
    pub(crate) routers: BTreeSet<Ipv4Addr>,
    pub(crate) address: Option<Ipv4Addr>,
    /// Where the subnet has an IPv6 range.
    pub(crate) ipv6: Option<SeatV6>,
    pub(crate) link: LinkName,
    pub(crate) mac: MacAddr,
}

/// Every interface's seat. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats(Arc<Mutex<BTreeMap<InterfaceId, Seat>>>);

/// Given back when dropped, unless [`SeatReservation::keep`] was called.
#[derive(Debug)]
pub(crate) struct SeatReservation {
    seats: Seats,
    id: InterfaceId,
    kept: bool,
}

impl Seats {
    /// With what `interfaces` have.
    pub(super) fn of<'a>(interfaces: impl IntoIterator<Item = &'a Interface>) -> Self {
        let seat = |interface: &Interface| Seat {
            subnet_id: interface.subnet_id.clone(),
            address: interface.private_ip,
            ipv6: interface.ipv6,
            link: interface.link.clone(),
            mac: interface.mac,
        };
        let taken = interfaces.into_iter().map(|one| (one.id.clone(), seat(one))).collect();
        Self(Arc::new(Mutex::new(taken)))
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<InterfaceId, Seat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a new interface needs.
    ///
    /// # Errors
    /// [`Problem`]s of the address.
    pub(crate) fn reserve(
        &self,
        id: &InterfaceId,
        wish: SeatWish,
    ) -> Result<(SeatReservation, Seat), Problem> {
        let mut seats = self.taken();
        let beside = seats.values().filter(|seat| seat.subnet_id == wish.subnet_id);
        let taken: BTreeSet<Ipv4Addr> = beside.map(|seat| seat.address).collect();
        let pool = AddressPool { range: wish.range, routers: &wish.routers, taken: &taken };
        let address = match wish.address {
            Some(address) => pool.check(address).map(|()| address),
            None => pool.lowest_free(),
        }?;
        let taken_v6 = || seats.values().filter_map(|seat| seat.ipv6).collect();
        let ipv6 = match wish.ipv6 {
            Some(SeatV6::Near(range, random)) => {
                Some(AddressPoolV6 { range, taken: &taken_v6() }.near(random)?)
            }
            Some(SeatV6::Exactly(range, address)) => {
                AddressPoolV6 { range, taken: &taken_v6() }.check(address)?;
                Some(address)
            }
            None => None,
        };
        // Both are made from randomness: the next try has others.
        let clash = |seat: &&Seat| seat.link == wish.link || seat.mac == wish.mac;
        if let Some(other) = seats.values().find(clash) {
            let what = format!("{} ({})", other.link, other.mac);
            let message = format!("the interface {what} has the same name or MAC address");
            return Err(Problem::new(Reason::Unavailable, message).remedy("try again"));
        }
        let seat =
            Seat { subnet_id: wish.subnet_id, address, ipv6, link: wish.link, mac: wish.mac };
        seats.insert(id.clone(), seat.clone());
        drop(seats);
        Ok((SeatReservation { seats: self.clone(), id: id.clone(), kept: false }, seat))
    }

    /// Gives back what an interface had.
    pub(crate) fn release(&self, id: &InterfaceId) {
        self.taken().remove(id);
    }
}

impl SeatReservation {
    /// The store knows it now.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for SeatReservation {
    fn drop(&mut self) {
        if !self.kept {
            self.seats.release(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> InterfaceId {
        InterfaceId::from_random([n; 9])
    }

    fn wish(n: u8, address: Option<&str>) -> SeatWish {
        SeatWish {
            subnet_id: SubnetId::from_random([1; 9]),
            range: "10.0.0.0/29".parse().unwrap(),
            routers: BTreeSet::new(),
            address: address.map(|text| text.parse().unwrap()),
            ipv6: None,
            link: format!("weft{n}").parse().unwrap(),
            mac: MacAddr::from_random([n; 5]),
        }
    }

    #[test]
    fn a_seat_that_is_not_kept_is_given_back() {
        let seats = Seats::default();
        let (first, seat) = seats.reserve(&id(1), wish(1, None)).unwrap();
        assert_eq!(seat.address, Ipv4Addr::new(10, 0, 0, 4));
        drop(first);
        let (second, seat) = seats.reserve(&id(2), wish(2, None)).unwrap();
        assert_eq!(seat.address, Ipv4Addr::new(10, 0, 0, 4));
        second.keep();
        let taken = seats.reserve(&id(3), wish(3, Some("10.0.0.4"))).unwrap_err();
        assert_eq!(taken.field.as_deref(), Some("private_ip"));
        seats.release(&id(2));
        seats.reserve(&id(3), wish(3, Some("10.0.0.4"))).unwrap().0.keep();
    }

    #[test]
    fn no_two_interfaces_have_one_mac_address_wherever_they_are() {
        let seats = Seats::default();
        seats.reserve(&id(1), wish(1, None)).unwrap().0.keep();
        let elsewhere = SeatWish {
            subnet_id: SubnetId::from_random([2; 9]),
            mac: MacAddr::from_random([1; 5]),
            ..wish(2, None)
        };
        let refused = seats.reserve(&id(2), elsewhere).unwrap_err();
        assert_eq!(refused.reason, Reason::Unavailable, "{refused}");
    }

    #[test]
    fn an_address_that_a_mac_makes_is_taken_as_it_is_or_not_at_all() {
        let seats = Seats::default();
        let range: Ipv6Network = "fd00:1:2:3::/64".parse().unwrap();
        let on_a_lan = |n: u8, address: &str| SeatWish {
            ipv6: Some(SeatV6::Exactly(range, address.parse().unwrap())),
            ..wish(n, None)
        };
        let own = "fd00:1:2:3:0:1ff:fe01:101";
        let (reservation, seat) = seats.reserve(&id(1), on_a_lan(1, own)).unwrap();
        reservation.keep();
        assert_eq!(seat.ipv6, Some(own.parse().unwrap()));
        for (address, want) in [(own, "is taken"), ("fd00:1:2:4::9", "is not in")] {
            let problem = seats.reserve(&id(2), on_a_lan(2, address)).unwrap_err();
            assert!(problem.message.contains(want), "{problem}");
        }
    }
}
