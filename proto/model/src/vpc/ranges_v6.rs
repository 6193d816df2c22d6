//! Which IPv6 ranges a VPC and its subnets may have.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use ipnetwork::Ipv6Network;

use crate::{Problem, Reason, SubnetId, SubnetSpec, VpcSpec};

/// Prefix lengths of VPCs: EC2's, and one /64 for a VPC with one subnet.
const PREFIXES: RangeInclusive<u8> = 44..=64;

/// The prefix length of every subnet, as in EC2: what addresses are made in (RFC 4291, 2.5.1).
pub const SUBNET_PREFIX_V6: u8 = 64;

/// The /48 that connects VPCs with IPv6 to the agent's namespace: private, its random bits (RFC 4193,
/// 3.2.2) drawn once, for all hosts, as its addresses never leave one.
pub const UPLINKS_V6: Ipv6Addr = Ipv6Addr::new(0xfdb4, 0x6e0a, 0x5c27, 0, 0, 0, 0, 0);

/// Ranges that are no network's, and what they are (RFC 6890, RFC 4291).
const SPECIAL: [(Ipv6Addr, u8, &str); 9] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 8, "kept for loopback and embedded IPv4"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 32, "kept for translation to IPv4"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "where packets are discarded"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "kept for protocols"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "kept for 6to4"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 9, "link-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32, "where EC2's services are"),
    (UPLINKS_V6, 48, "where VPCs are connected to their host"),
];

/// Parses an IPv6 range whose host bits are zero.
///
/// # Errors
/// A [`Problem`] at `field` with the range that was probably meant.
pub fn parse_cidr_v6(field: &str, text: &str) -> Result<Ipv6Network, Problem> {
    let invalid =
        |message: String, remedy: String| Err(Problem::invalid(field, message).remedy(remedy));
    let parsed = text.contains('/').then(|| text.parse::<Ipv6Network>().ok()).flatten();
    let Some(range) = parsed else {
        return invalid(
            format!("\"{text}\" is not an IPv6 range"),
            "write an address and a prefix length, such as \"fd12:3456:789a::/56\"".to_owned(),
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

/// Whether two IPv6 ranges have an address in common.
pub fn overlap_v6(one: Ipv6Network, other: Ipv6Network) -> bool {
    one.contains(other.network()) || other.contains(one.network())
}

/// Refuses an IPv6 range that no VPC can have.
///
/// # Errors
/// A [`Problem`] at `ipv6_cidr_block`.
pub fn check_vpc_range_v6(range: Ipv6Network) -> Result<(), Problem> {
    let invalid = |message: String, remedy: String| {
        Err(Problem::invalid("ipv6_cidr_block", message).remedy(remedy))
    };
    if !PREFIXES.contains(&range.prefix()) {
        let (least, most) = (PREFIXES.start(), PREFIXES.end());
        return invalid(
            format!("{range} has a prefix length of {}", range.prefix()),
            format!("an IPv6 VPC has /{least} to /{most}; each of its subnets is a /64 of it"),
        );
    }
    let special = SPECIAL.iter().find(|(address, prefix, _)| {
        Ipv6Network::new(*address, *prefix).is_ok_and(|special| overlap_v6(special, range))
    });
    match special {
        None => Ok(()),
        Some((address, prefix, what)) => invalid(
            format!("{range} overlaps {address}/{prefix}, which is {what}"),
            "use a range that was given to you, or a private one made by RFC 4193, such as \
             \"fd12:3456:789a::/56\""
                .to_owned(),
        ),
    }
}

/// Refuses an IPv6 range that no subnet of `vpc` beside `others` can have.
///
/// # Errors
/// A [`Problem`] at `ipv6_cidr_block`.
pub(super) fn check_subnet_range<'a>(
    range: Ipv6Network,
    vpc: &VpcSpec,
    others: impl Iterator<Item = (&'a SubnetId, &'a SubnetSpec)>,
) -> Result<(), Problem> {
    let invalid = |message: String, remedy: String| {
        Err(Problem::invalid("ipv6_cidr_block", message).remedy(remedy))
    };
    let Some(whole) = vpc.ipv6_cidr_block else {
        return invalid(
            format!("the VPC {} has no IPv6 range", vpc.name),
            "give weft_vpc an ipv6_cidr_block, or leave the subnet's out".to_owned(),
        );
    };
    if range.prefix() != SUBNET_PREFIX_V6 {
        return invalid(
            format!("{range} has a prefix length of {}", range.prefix()),
            format!("a subnet has a /64; cidrsubnet(\"{whole}\", N, 0) cuts one off"),
        );
    }
    if !whole.contains(range.network()) {
        return invalid(
            format!("{range} is not in the VPC's IPv6 range {whole}"),
            "choose a part of the VPC's ipv6_cidr_block; cidrsubnet() cuts one off".to_owned(),
        );
    }
    let mut others = others;
    match others.find(|(_, other)| other.ipv6_cidr_block == Some(range)) {
        None => Ok(()),
        Some((id, other)) => {
            let message = format!("{range} is the IPv6 range of subnet {id} ({})", other.name);
            Err(Problem::new(Reason::AlreadyExists, message)
                .at("ipv6_cidr_block")
                .remedy("choose a range that is free; weft ls subnets shows those that are not"))
        }
    }
}
