//! What the kernel has of a VPC's network, read back; only objects of ours are in here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use crate::{LinkName, MacAddr, TapInterface, Uplink, VpcNetwork};

/// The network of one VPC as the kernel has it, without the packet filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedNetwork {
    /// Whether the loopback link is up.
    pub loopback_up: bool,
    /// Whether forwarding and the namespace-wide switches are as wanted.
    pub sysctls_ok: bool,
    /// The routers' addresses on the loopback link.
    pub gateways: BTreeSet<Ipv4Addr>,
    /// Ranges that are unreachable unless a longer route says otherwise.
    pub unreachable: BTreeSet<Ipv4Network>,
    /// The way out, if any part of it exists inside the VPC's namespace.
    pub uplink: Option<ObservedUplink>,
    /// The taps.
    pub taps: BTreeMap<LinkName, ObservedTap>,
}

/// A tap as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedTap {
    /// Whether it is set up, and so passes packets.
    pub up: bool,
    /// Whether proxy ARP and the other switches of this link are as wanted.
    pub sysctls_ok: bool,
    /// The user that may open it besides root.
    pub owner_uid: Option<u32>,
    /// Addresses routed to it, with the source that the host uses towards them.
    pub routes: BTreeMap<Ipv4Addr, Option<Ipv4Addr>>,
    /// Permanent neighbours on it.
    pub neighbours: BTreeMap<Ipv4Addr, MacAddr>,
}

/// The uplink as it is, both ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedUplink {
    /// The end in the VPC's namespace.
    pub guest_link: LinkName,
    /// Whether that end is up.
    pub guest_up: bool,
    /// Its address.
    pub guest_addr: Option<Ipv4Addr>,
    /// Where the VPC's default route leads.
    pub default_gateway: Option<Ipv4Addr>,
    /// The end in the agent's namespace, if it is there.
    pub link: Option<LinkName>,
    /// Whether that end is up.
    pub host_up: bool,
    /// Its address.
    pub host_addr: Option<Ipv4Addr>,
    /// Ranges that the agent's namespace routes into it.
    pub routes: BTreeSet<Ipv4Network>,
}

impl ObservedNetwork {
    /// Whether loopback, switches, gateways and the range itself are as `desired` wants them.
    pub fn base_matches(&self, desired: &VpcNetwork) -> bool {
        self.loopback_up
            && self.sysctls_ok
            && self.gateways == desired.gateways
            && self.unreachable == BTreeSet::from([desired.cidr])
    }

    /// Whether the way out is as `desired` wants it.
    pub fn uplink_matches(&self, desired: &VpcNetwork) -> bool {
        match (&self.uplink, &desired.uplink) {
            (None, None) => true,
            (Some(seen), Some(wanted)) => seen.matches(wanted, desired.cidr),
            _ => false,
        }
    }
}

impl ObservedTap {
    /// Whether the tap is made as wanted, whether it is up or not.
    pub fn is_made_for(&self, desired: &TapInterface) -> bool {
        self.sysctls_ok && self.owner_uid == desired.owner_uid
    }

    /// Whether the tap is up and leads to the guest, and to nobody else.
    pub fn is_up_for(&self, desired: &TapInterface) -> bool {
        self.is_made_for(desired)
            && self.up
            && self.routes == BTreeMap::from([(desired.address, Some(desired.gateway))])
            && self.neighbours == BTreeMap::from([(desired.address, desired.mac)])
    }
}

impl ObservedUplink {
    /// Whether both ends are as wanted for a VPC with the range `cidr`.
    pub fn matches(&self, desired: &Uplink, cidr: Ipv4Network) -> bool {
        let routes = if desired.routed { BTreeSet::from([cidr]) } else { BTreeSet::new() };
        *self
            == Self {
                guest_link: desired.guest_link.clone(),
                guest_up: true,
                guest_addr: Some(desired.guest_addr),
                default_gateway: Some(desired.host_addr),
                link: Some(desired.link.clone()),
                host_up: true,
                host_addr: Some(desired.host_addr),
                routes,
            }
    }
}
