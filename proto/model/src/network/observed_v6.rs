//! The IPv6 half of what the kernel has of a routed VPC's network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;
use serde::{Deserialize, Serialize};

use crate::{MacAddr, ROUTER_V6, SERVICE_ADDRESSES_V6, TapInterface, Uplink, VpcNetwork};

/// A namespace's switches, and what is on its loopback link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedNetworkV6 {
    /// Whether it routes IPv6 and believes no router (`true`), knows no IPv6 at all (`false`), or
    /// something in between.
    pub on: Option<bool>,
    /// The addresses on the loopback link but its own.
    pub services: BTreeSet<Ipv6Addr>,
    /// Ranges that are unreachable unless a longer route says otherwise.
    pub unreachable: BTreeSet<Ipv6Network>,
}

/// A tap's switches, addresses, routes and neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedTapV6 {
    /// As [`ObservedNetworkV6::on`].
    pub on: Option<bool>,
    /// The router's addresses on it.
    pub routers: BTreeSet<Ipv6Addr>,
    /// Addresses routed to it.
    pub routes: BTreeSet<Ipv6Addr>,
    /// Permanent neighbours on it.
    pub neighbours: BTreeMap<Ipv6Addr, MacAddr>,
}

/// Both ends of the uplink; empty where the VPC has no IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedUplinkV6 {
    /// Addresses of the end in the VPC's namespace.
    pub guest: BTreeSet<Ipv6Addr>,
    /// Addresses of the end in the agent's namespace.
    pub host: BTreeSet<Ipv6Addr>,
    /// Where the VPC's default route leads.
    pub default_gateway: Option<Ipv6Addr>,
    /// Ranges that the agent's namespace routes into it.
    pub routes: BTreeSet<Ipv6Network>,
}

impl ObservedNetworkV6 {
    /// What `desired` looks like.
    pub fn of(desired: &VpcNetwork) -> Self {
        match desired.ipv6 {
            None => Self { on: Some(false), ..Self::default() },
            Some(range) => Self {
                on: Some(true),
                services: SERVICE_ADDRESSES_V6.into(),
                unreachable: [range].into(),
            },
        }
    }
}

impl ObservedTapV6 {
    /// What a tap for `desired` looks like when it is up. A port of a bridge has no IPv6.
    pub fn of(desired: &TapInterface) -> Self {
        match desired.ipv6 {
            None => Self { on: Some(false), ..Self::default() },
            Some(address) => Self {
                on: Some(true),
                routers: [ROUTER_V6].into(),
                routes: [address].into(),
                neighbours: [(address, desired.mac)].into(),
            },
        }
    }
}

impl ObservedUplinkV6 {
    /// What the uplink `desired` of a VPC with the IPv6 range `range` looks like.
    pub fn of(desired: &Uplink, range: Option<Ipv6Network>) -> Self {
        let Some(ends) = desired.ipv6 else { return Self::default() };
        Self {
            guest: [ends.guest_addr].into(),
            host: [ends.host_addr].into(),
            default_gateway: Some(ends.host_addr),
            routes: range.filter(|_| desired.routed).into_iter().collect(),
        }
    }
}
