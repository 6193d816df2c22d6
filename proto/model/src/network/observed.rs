//! What the kernel has of a VPC's network, read back; only objects of ours are in here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use crate::network::observed_v6::{ObservedNetworkV6, ObservedTapV6, ObservedUplinkV6};
use crate::{
    Bridge, BridgeJoin, JoinPath, LinkName, MacAddr, ObservedShaper, Routes, SERVICE_ADDRESSES,
    TapInterface, Uplink, VpcNetwork,
};

/// The network of one VPC as the kernel has it, without the packet filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedNetwork {
    /// Whether the loopback link is up.
    pub loopback_up: bool,
    /// Whether the namespace-wide switches besides forwarding are as wanted.
    pub sysctls_ok: bool,
    /// Whether it routes.
    #[serde(default)]
    pub forwarding: bool,
    /// The routers' addresses on the loopback link.
    pub gateways: BTreeSet<Ipv4Addr>,
    /// The addresses of the VPC's services on the loopback link.
    #[serde(default)]
    pub services: BTreeSet<Ipv4Addr>,
    /// Ranges that are unreachable unless a longer route says otherwise.
    pub unreachable: BTreeSet<Ipv4Network>,
    /// Its IPv6 half.
    #[serde(default)]
    pub ipv6: ObservedNetworkV6,
    /// The way out, if any part of it exists inside the VPC's namespace.
    pub uplink: Option<ObservedUplink>,
    /// The bridge of a VPC that has one.
    #[serde(default)]
    pub bridge: Option<ObservedBridge>,
    /// The route tables beside the one that all follow.
    #[serde(default)]
    pub routes: Routes,
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
    /// Whether its sources are checked by their route; `None`: neither quite nor not at all.
    #[serde(default)]
    pub source_dest_check: Option<bool>,
    /// The user that may open it besides root.
    pub owner_uid: Option<u32>,
    /// Addresses routed to it, with the source that the host uses towards them.
    pub routes: BTreeMap<Ipv4Addr, Option<Ipv4Addr>>,
    /// Permanent neighbours on it; of a port, those on its bridge whose MAC is behind it.
    pub neighbours: BTreeMap<Ipv4Addr, MacAddr>,
    /// Its IPv6 half.
    #[serde(default)]
    pub ipv6: ObservedTapV6,
    /// The bridge that it is a port of.
    #[serde(default)]
    pub port: Option<ObservedPort>,
    /// What slows down packets on their way to the guest.
    #[serde(default)]
    pub shaper: ObservedShaper,
}

/// A port of a bridge as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedPort {
    /// The bridge.
    pub bridge: LinkName,
    /// Whether it is neither flooded nor teaches the bridge addresses, and sends nothing back.
    pub switches_ok: bool,
    /// The addresses behind it.
    pub macs: BTreeSet<MacAddr>,
}

/// A VPC's bridge as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedBridge {
    /// Its name.
    pub link: LinkName,
    /// Whether it is up, marked as ours, filtered, and the rest of its settings are as wanted.
    pub settings_ok: bool,
    /// Its MAC.
    pub mac: Option<MacAddr>,
    /// Its addresses, with the range that is behind it.
    pub addresses: BTreeSet<Ipv4Network>,
    /// What joins it to the operator's LAN, if its inner end exists.
    pub joined: Option<ObservedJoin>,
}

/// What joins our bridge to the operator's LAN, in both namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedJoin {
    /// The port in the VPC's namespace.
    pub guest_link: LinkName,
    /// Whether it is up, with what it is on there, and a port of our bridge.
    pub guest_ok: bool,
    /// The VLAN, where the port is a VLAN link.
    #[serde(default)]
    pub vlan_id: Option<u16>,
    /// The pair's end in the agent's namespace, if there is one.
    pub host_link: Option<LinkName>,
    /// Whether all is up in the agent's namespace.
    pub host_up: bool,
    /// The bridge that the pair's end is a port of.
    pub host_bridge: Option<LinkName>,
    /// The operator's link: the other port of that bridge if it is ours, or what the VLAN is of.
    #[serde(default)]
    pub uplink: Option<LinkName>,
}

/// The uplink as it is, both ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedUplink {
    /// The end in the VPC's namespace.
    pub guest_link: LinkName,
    /// Whether that end is up.
    pub guest_up: bool,
    /// Whether the switches of that end are as wanted.
    #[serde(default)]
    pub guest_sysctls_ok: bool,
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
    /// Its IPv6 half.
    #[serde(default)]
    pub ipv6: ObservedUplinkV6,
}

impl ObservedNetwork {
    /// Whether loopback, switches, gateways and the range itself are as `desired` wants them.
    pub fn base_matches(&self, desired: &VpcNetwork) -> bool {
        let (gateways, unreachable) = desired.on_loopback();
        self.loopback_up
            && self.sysctls_ok
            && self.forwarding == desired.bridge.is_none()
            && self.gateways == gateways
            && self.services == BTreeSet::from(SERVICE_ADDRESSES)
            && self.unreachable == unreachable
            && self.ipv6 == ObservedNetworkV6::of(desired)
    }

    /// Whether the bridge is as `desired` wants it, without what it is joined to.
    pub fn bridge_matches(&self, desired: &VpcNetwork) -> bool {
        match (&self.bridge, &desired.bridge) {
            (None, None) => true,
            (Some(seen), Some(wanted)) => {
                seen.settings_ok
                    && seen.link == wanted.link
                    && seen.mac == Some(Bridge::mac(&desired.vpc_id))
                    && seen.addresses == desired.bridge_addresses()
            }
            _ => false,
        }
    }

    /// Whether the bridge is joined to what `desired` wants it to be joined to.
    pub fn join_matches(&self, desired: &VpcNetwork) -> bool {
        let seen = self.bridge.as_ref();
        let joined = seen.and_then(|seen| seen.joined.as_ref());
        match (joined, desired.bridge.as_ref().and_then(|bridge| bridge.joined.as_ref())) {
            (None, None) => true,
            (Some(joined), Some(wanted)) => {
                let link = desired.bridge.as_ref().map(|bridge| &bridge.link);
                seen.map(|seen| &seen.link) == link && *joined == ObservedJoin::of(wanted)
            }
            _ => false,
        }
    }

    /// Whether the way out is as `desired` wants it.
    pub fn uplink_matches(&self, desired: &VpcNetwork) -> bool {
        match (&self.uplink, &desired.uplink) {
            (None, None) => true,
            (Some(seen), Some(wanted)) => seen.matches(wanted, desired),
            _ => false,
        }
    }
}

impl ObservedTap {
    /// Whether the tap is made as wanted, whether it is up or not.
    pub fn is_made_for(&self, desired: &TapInterface) -> bool {
        self.sysctls_ok
            && self.source_dest_check == Some(desired.source_dest_check)
            && self.owner_uid == desired.owner_uid
            && self.ipv6.on == Some(desired.ipv6.is_some())
    }

    /// Whether the tap is up and leads to the guest, and to nobody else: by a route or, with a
    /// `bridge`, as its port.
    pub fn is_up_for(&self, desired: &TapInterface, bridge: Option<&Bridge>) -> bool {
        let routes = match bridge {
            None => BTreeMap::from([(desired.address, Some(desired.gateway))]),
            Some(_) => BTreeMap::new(),
        };
        self.is_made_for(desired)
            && self.up
            && self.routes == routes
            && self.neighbours == BTreeMap::from([(desired.address, desired.mac)])
            && self.ipv6 == ObservedTapV6::of(desired)
            && self.shaper == ObservedShaper::of(desired.network_mbps)
            && self.port == bridge.map(|bridge| ObservedPort::of(&bridge.link, desired))
    }
}

impl ObservedPort {
    /// What a port for `desired` looks like.
    pub fn of(bridge: &LinkName, desired: &TapInterface) -> Self {
        Self { bridge: bridge.clone(), switches_ok: true, macs: BTreeSet::from([desired.mac]) }
    }
}

impl ObservedJoin {
    /// What was made for `desired` looks like.
    pub fn of(desired: &BridgeJoin) -> Self {
        let mut seen = Self {
            guest_link: desired.guest_link.clone(),
            guest_ok: true,
            vlan_id: None,
            host_link: None,
            host_up: true,
            host_bridge: None,
            uplink: None,
        };
        match &desired.path {
            JoinPath::Bridge { host_bridge, host_link, vlan } => {
                seen.host_bridge = Some(host_bridge.clone());
                seen.host_link = Some(host_link.clone());
                seen.vlan_id = vlan.as_ref().map(|trunk| trunk.vlan_id);
            }
            JoinPath::Uplink { uplink, host_bridge, host_link } => {
                seen.host_bridge = Some(host_bridge.clone());
                seen.host_link = Some(host_link.clone());
                seen.uplink = Some(uplink.clone());
            }
            JoinPath::Vlan { uplink, vlan_id } => {
                seen.uplink = Some(uplink.clone());
                seen.vlan_id = Some(*vlan_id);
            }
        }
        seen
    }
}

impl ObservedUplink {
    /// Whether both ends are as wanted for `network`.
    pub fn matches(&self, desired: &Uplink, network: &VpcNetwork) -> bool {
        let routes = desired.host_routes(network.cidr);
        *self
            == Self {
                guest_link: desired.guest_link.clone(),
                guest_up: true,
                guest_sysctls_ok: true,
                guest_addr: Some(desired.guest_addr),
                default_gateway: Some(desired.host_addr),
                link: Some(desired.link.clone()),
                host_up: true,
                host_addr: Some(desired.host_addr),
                routes,
                ipv6: ObservedUplinkV6::of(desired, network.ipv6),
            }
    }
}
