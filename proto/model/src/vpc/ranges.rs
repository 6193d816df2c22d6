//! Which ranges networks may have, and where a subnet's router may be.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnetwork::Ipv4Network;

use super::{ranges_v6, reserved};
use crate::{Problem, Reason, SubnetId, SubnetOrder, SubnetSpec, VpcMode, VpcOrder, VpcSpec};

/// Prefix lengths of VPCs and subnets, as in EC2.
const PREFIXES: RangeInclusive<u8> = 16..=28;

/// Ranges that mean something else to every machine (RFC 6890); our uplinks are in one of them.
const SPECIAL: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Parses an IPv4 range whose host bits are zero, as EC2 demands it.
///
/// # Errors
/// A [`Problem`] at `field` with the range that was probably meant.
pub fn parse_cidr(field: &str, text: &str) -> Result<Ipv4Network, Problem> {
    let invalid =
        |message: String, remedy: String| Err(Problem::invalid(field, message).remedy(remedy));
    if !text.contains('/') {
        return invalid(
            format!("\"{text}\" has no prefix length"),
            format!("write \"{text}/32\" for one address"),
        );
    }
    let Ok(range) = text.parse::<Ipv4Network>() else {
        return invalid(
            format!("\"{text}\" is not an IPv4 range"),
            "write an address and a prefix length, such as \"10.0.0.0/8\"".to_owned(),
        );
    };
    if range.ip() != range.network() {
        let meant = format!("{}/{}", range.network(), range.prefix());
        return invalid(
            format!("\"{text}\" has bits set behind its prefix"),
            format!("write \"{meant}\""),
        );
    }
    Ok(range)
}

/// The ranges that no network may use.
pub(crate) fn specials() -> impl Iterator<Item = Ipv4Network> {
    SPECIAL.iter().filter_map(|(address, prefix)| Ipv4Network::new(*address, *prefix).ok())
}

/// Refuses a range that no network may use: loopback, link-local, multicast.
///
/// # Errors
/// A [`Problem`] at `field`.
pub fn check_no_special_range(field: &str, range: Ipv4Network) -> Result<(), Problem> {
    match specials().find(|special| special.overlaps(range)) {
        None => Ok(()),
        Some(special) => {
            let message = format!("{range} overlaps {special}, which no network may use");
            Err(Problem::invalid(field, message)
                .remedy("use a private range such as 10.231.0.0/16"))
        }
    }
}

/// The range of those that no network may use which `range` is a part of.
pub(crate) fn special_range(range: Ipv4Network) -> Option<Ipv4Network> {
    specials()
        .filter(|special| special.prefix() <= range.prefix())
        .find(|special| special.contains(range.network()))
}

/// Refuses a range that no VPC and no subnet can have.
///
/// # Errors
/// A [`Problem`] at `field`.
pub fn check_network_range(field: &str, range: Ipv4Network) -> Result<(), Problem> {
    if !PREFIXES.contains(&range.prefix()) {
        let (least, most) = (PREFIXES.start(), PREFIXES.end());
        let message = format!("{range} has a prefix length of {}", range.prefix());
        return Err(Problem::invalid(field, message)
            .remedy(format!("VPCs and subnets have prefix lengths from /{least} to /{most}")));
    }
    check_no_special_range(field, range)
}

impl VpcOrder {
    /// Refuses what can never be, whatever else there is.
    ///
    /// # Errors
    /// A [`Problem`] at the field that is wrong.
    pub fn check(&self) -> Result<(), Problem> {
        self.check_lan()?;
        if let Some(range) = self.ipv6_cidr_block {
            ranges_v6::check_vpc_range_v6(range)?;
        }
        check_network_range("cidr_block", self.cidr_block)
    }
}

impl SubnetOrder {
    /// The subnet in `vpc`, beside `others` of the same VPC.
    ///
    /// # Errors
    /// A [`Problem`] at the field that is wrong.
    pub fn place<'a>(
        self,
        vpc: &VpcSpec,
        others: impl Iterator<Item = (&'a SubnetId, &'a SubnetSpec)> + Clone,
    ) -> Result<SubnetSpec, Problem> {
        let (range, whole) = (self.cidr_block, vpc.cidr_block);
        check_network_range("cidr_block", range)?;
        if !whole.is_supernet_of(range) {
            let message = format!("{range} is not in the range {whole} of {}", self.vpc_id);
            return Err(Problem::invalid("cidr_block", message)
                .remedy("choose a part of the VPC's cidr_block; cidrsubnet() cuts one off"));
        }
        let gateway = self.gateway.unwrap_or_else(|| match vpc.mode {
            VpcMode::Routed => reserved(range)[0],
            VpcMode::Bridge => reserved(whole)[0],
        });
        check_map_public_ip(self.map_public_ip, vpc.mode)?;
        check_gateway(gateway, range, vpc)?;
        if let Some(range) = self.ipv6_cidr_block {
            ranges_v6::check_subnet_range(range, vpc, others.clone())?;
        }
        let subnet = SubnetSpec {
            name: self.name,
            vpc_id: self.vpc_id,
            cidr_block: range,
            ipv6_cidr_block: self.ipv6_cidr_block,
            gateway,
            dns_servers: self.dns_servers,
            map_public_ip: self.map_public_ip,
            is_default: false,
        };
        for (id, other) in others {
            check_beside(&subnet, id, other, vpc.mode)?;
        }
        Ok(subnet)
    }
}

/// Refuses public addresses where guests have those of the LAN.
///
/// # Errors
/// At `map_public_ip_on_launch`.
pub fn check_map_public_ip(map_public_ip: bool, mode: VpcMode) -> Result<(), Problem> {
    if !map_public_ip || mode == VpcMode::Routed {
        return Ok(());
    }
    let message = "guests of a bridge VPC have addresses of the LAN, not of the public pool";
    Err(Problem::invalid("map_public_ip_on_launch", message).remedy("leave it out"))
}

/// Refuses what would have no effect: the guests of a bridge are all checked, for the LAN has other
/// machines than ours.
///
/// # Errors
/// At `source_dest_check`.
pub fn check_source_dest(source_dest_check: bool, mode: VpcMode) -> Result<(), Problem> {
    if source_dest_check || mode == VpcMode::Routed {
        return Ok(());
    }
    let message = "a guest of a bridge VPC sends from its own addresses only: source_dest_check = \
                   false has no effect there";
    Err(Problem::invalid("source_dest_check", message)
        .remedy("leave it out, or use a VPC with mode = \"routed\""))
}

fn check_gateway(gateway: Ipv4Addr, range: Ipv4Network, vpc: &VpcSpec) -> Result<(), Problem> {
    let invalid = |message: String, remedy: String| {
        Err(Problem::invalid("gateway_ip", message).remedy(remedy))
    };
    match vpc.mode {
        VpcMode::Routed => {
            let allowed = reserved(range);
            if allowed.contains(&gateway) {
                return Ok(());
            }
            let [first, _, last] = allowed;
            invalid(
                format!("{gateway} is not reserved for the router of {range}"),
                format!("leave gateway_ip out, or use an address from {first} to {last}"),
            )
        }
        VpcMode::Bridge => {
            let lan = vpc.cidr_block;
            if lan.contains(gateway) && gateway != lan.network() && gateway != lan.broadcast() {
                return Ok(());
            }
            invalid(
                format!("{gateway} is no address of a machine on the LAN {lan}"),
                "use the address of the LAN's router".to_owned(),
            )
        }
    }
}

fn check_beside(
    subnet: &SubnetSpec,
    id: &SubnetId,
    other: &SubnetSpec,
    mode: VpcMode,
) -> Result<(), Problem> {
    if subnet.cidr_block.overlaps(other.cidr_block) {
        let (range, theirs) = (subnet.cidr_block, other.cidr_block);
        let message = format!("{range} overlaps {theirs} of subnet {id} ({})", other.name);
        return Err(Problem::new(Reason::AlreadyExists, message)
            .at("cidr_block")
            .remedy("choose a range that is free; weft ls subnets shows those that are not"));
    }
    let (ours, theirs) = (subnet.service_address(mode), other.service_address(mode));
    // On a bridge both routers are the LAN's, and both services are ours.
    if subnet.gateway == theirs || other.gateway == ours {
        let address = if subnet.gateway == theirs { theirs } else { ours };
        let message = format!(
            "{address} would be a router and the agent itself: subnet {id} has the router {}",
            other.gateway
        );
        return Err(Problem::new(Reason::AlreadyExists, message)
            .at("gateway_ip")
            .remedy("give all subnets of the LAN the address of its one router"));
    }
    Ok(())
}
