//! A network interface's place: its subnet, address, MAC and tap, chosen at Create.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use weft_model::{
    GroupId, Interface, InterfaceId, LinkName, MacAddr, Problem, Reason, SubnetId, SubnetSpec,
    VpcId, VpcMode, check_source_dest,
};
use weft_store::Txn;

use crate::context::Context;
use crate::ledger::{SeatReservation, SeatV6, SeatWish};
use crate::random;
use crate::repo::{Groups, Subnets, Vpcs, address_key, mac_key, missing};

/// Digits of an id in a tap's name: a link's name has 15 bytes.
const LINK_DIGITS: usize = 11;

/// Where an interface is to be.
pub(crate) struct Place {
    subnet_id: SubnetId,
    pub(super) subnet: SubnetSpec,
    /// Of the VPC.
    mode: VpcMode,
    /// Of every subnet of the VPC.
    routers: BTreeSet<Ipv4Addr>,
}

/// What is asked of a new interface.
pub(crate) struct InterfaceOrder<'a> {
    pub(crate) id: InterfaceId,
    /// Whose its address is: the instance that it is a part of, or itself.
    pub(crate) owner: &'a str,
    pub(crate) link: LinkName,
    pub(crate) private_ip: Option<Ipv4Addr>,
    pub(crate) security_group_ids: Option<BTreeSet<GroupId>>,
    pub(crate) source_dest_check: bool,
    /// Of the interface itself.
    pub(crate) network_mbps: Option<u32>,
}

/// The keys that make an interface's addresses and MAC its own.
pub(crate) fn seat_keys(interface: &Interface) -> Vec<String> {
    let addresses = [Some(IpAddr::V4(interface.private_ip)), interface.ipv6.map(IpAddr::V6)];
    let addresses = addresses.into_iter().flatten();
    addresses
        .map(|address| address_key(&interface.subnet_id, address))
        .chain([mac_key(&interface.vpc_id, interface.mac)])
        .collect()
}

impl Context {
    /// The subnet, or the default one.
    pub(crate) async fn place(&self, id: Option<&SubnetId>) -> Result<Place, Problem> {
        let subnets = self.repo.list::<Subnets>().await?;
        let found = match id {
            Some(id) => subnets.iter().find(|subnet| subnet.id == *id),
            None => subnets.iter().find(|subnet| subnet.spec.is_default),
        };
        let found = found.ok_or_else(|| match id {
            Some(id) => missing::<Subnets>(id, "subnet_id"),
            None => Problem::not_found("there is no default subnet")
                .at("subnet_id")
                .remedy("name one: weft ls subnets shows them"),
        })?;
        let vpc = self.repo.get::<Vpcs>(&found.spec.vpc_id).await?;
        let beside = subnets.iter().filter(|other| other.spec.vpc_id == found.spec.vpc_id);
        Ok(Place {
            subnet_id: found.id.clone(),
            subnet: found.spec.clone(),
            mode: vpc.value.spec.mode,
            routers: beside.map(|other| other.spec.gateway).collect(),
        })
    }

    /// Judges what is asked, and chooses the rest. The caller holds `references` for reading and
    /// stores the interface with the transaction, then keeps the reservation.
    ///
    /// # Errors
    /// A [`Problem`] at the field that is wrong; nothing was made.
    pub(crate) async fn seat(
        &self,
        place: Place,
        order: InterfaceOrder<'_>,
    ) -> Result<(Interface, SeatReservation, Txn), Problem> {
        let vpc_id = place.subnet.vpc_id;
        self.check_groups(order.security_group_ids.as_ref(), &vpc_id).await?;
        check_source_dest(order.source_dest_check, place.mode)?;
        let mac = MacAddr::from_random(random::bytes());
        let ipv6 = place.subnet.ipv6_cidr_block.map(|range| match place.mode {
            VpcMode::Routed => SeatV6::Near(range, u64::from_ne_bytes(random::bytes())),
            // The one that a guest would make itself of what the LAN's router advertises.
            VpcMode::Bridge => SeatV6::Exactly(range, mac.address_in(range.network())),
        });
        let wish = SeatWish {
            subnet_id: place.subnet_id,
            range: place.subnet.cidr_block,
            routers: place.routers,
            address: order.private_ip,
            ipv6,
            link: order.link,
            mac,
        };
        let (reservation, seat) = self.ledger.seats.reserve(&order.id, wish)?;
        let interface = Interface {
            id: order.id,
            vpc_id,
            subnet_id: seat.subnet_id,
            private_ip: seat.address,
            ipv6: seat.ipv6,
            mac: seat.mac,
            link: seat.link,
            security_group_ids: order.security_group_ids,
            source_dest_check: order.source_dest_check,
            network_mbps: order.network_mbps,
        };
        let own = |txn: Txn, key: String| txn.when_absent(&key).put(key, order.owner);
        let txn = seat_keys(&interface).into_iter().fold(Txn::new(), own);
        Ok((interface, reservation, txn))
    }

    /// The name of the tap of what has an id with these digits.
    pub(crate) fn link_name(&self, digits: &str) -> Result<LinkName, Problem> {
        let prefix = &self.reconciler.config().prefix;
        let name = format!("{prefix}{}", &digits[..LINK_DIGITS]);
        name.parse().map_err(|error: weft_model::InvalidLinkName| {
            Problem::new(Reason::Internal, error.to_string())
        })
    }

    /// Refuses `source_dest_check = false` where it would have no effect.
    pub(crate) async fn check_source_dest(
        &self,
        source_dest_check: bool,
        vpc_id: &VpcId,
    ) -> Result<(), Problem> {
        if source_dest_check {
            return Ok(());
        }
        check_source_dest(source_dest_check, self.repo.get::<Vpcs>(vpc_id).await?.value.spec.mode)
    }

    /// Refuses groups that do not exist, or are of another VPC.
    pub(crate) async fn check_groups(
        &self,
        ids: Option<&BTreeSet<GroupId>>,
        vpc_id: &VpcId,
    ) -> Result<(), Problem> {
        for id in ids.into_iter().flatten() {
            let stored = self.repo.find::<Groups>(id).await?;
            let stored = stored.ok_or_else(|| missing::<Groups>(id, "security_group_ids"))?;
            stored.value.spec.check_vpc(id, vpc_id)?;
        }
        Ok(())
    }
}
