//! The network of one VPC on one host, as data: what is wanted and what the kernel has.
//!
//! The planner compares [`VpcNetwork`] with [`ObservedNetwork`]; the effects (links, routes,
//! packet filter) live in crates of their own. A tap is set up only after the packet filter
//! knows it, so that an interface is never open by mistake.

mod bandwidth;
mod counts;
mod firewall;
mod flow;
mod observed;
mod observed_v6;
mod routes;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::{LinkName, MacAddr, VpcId};

pub use bandwidth::{NETWORK_MBPS, ObservedShaper, check_network_mbps};
pub use counts::{Counted, Counts};
pub use firewall::{
    Firewall, FirewallBridge, FirewallForward, FirewallGroup, FirewallInterface, FirewallNat,
    FirewallPrefixList, FirewallUplink,
};
pub use flow::TrackedFlow;
pub use observed::{
    ObservedBridge, ObservedJoin, ObservedNetwork, ObservedPort, ObservedTap, ObservedUplink,
};
pub use observed_v6::{ObservedNetworkV6, ObservedTapV6, ObservedUplinkV6};
pub use verdict::{Admission, Opening, Service};

pub use routes::{NextHop, Routes};

/// Where every VPC serves its guests' metadata, as in EC2.
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where every VPC resolves names, as in EC2; also at each gateway.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// The addresses of every VPC's services: in its namespace, and nobody else's.
pub const SERVICE_ADDRESSES: [Ipv4Addr; 2] = [METADATA_ADDRESS, DNS_ADDRESS];

/// Where a dual-stack VPC serves its guests' metadata over IPv6, as in EC2.
pub const METADATA_ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Where it resolves names over IPv6, as in EC2.
pub const DNS_ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253);
/// The IPv6 addresses of a dual-stack VPC's services.
pub const SERVICE_ADDRESSES_V6: [Ipv6Addr; 2] = [METADATA_ADDRESS_V6, DNS_ADDRESS_V6];

/// The IPv6 router on every guest's link, the same for all: link-local, so no address of any subnet
/// is spent on it, and a guest that moves to another link keeps its route.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Everything one VPC needs on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcNetwork {
    /// The VPC.
    pub vpc_id: VpcId,
    /// Its range. Addresses of it that no interface has are unreachable, they never leave.
    pub cidr: Ipv4Network,
    /// Its IPv6 range; `None` is a VPC without IPv6, or a bridge, through which only frames pass. Its
    /// router is [`ROUTER_V6`] on every link.
    #[serde(default)]
    pub ipv6: Option<Ipv6Network>,
    /// The router's address in each subnet.
    pub gateways: BTreeSet<Ipv4Addr>,
    /// How its guests are connected: `None` is routed, no guest shares a link with another one.
    pub bridge: Option<Bridge>,
    /// The way out of the VPC; `None` is an isolated VPC.
    pub uplink: Option<Uplink>,
    /// The interfaces of its instances on this host, by the name of their tap.
    pub interfaces: Arc<BTreeMap<LinkName, TapInterface>>,
    /// Where guests' packets go that do not take the VPC's own way out.
    #[serde(default)]
    pub routes: Routes,
    /// The packet filter of its namespace.
    pub firewall: Firewall,
}

impl VpcNetwork {
    /// The addresses on the loopback link and the ranges that end in the namespace: the routers'
    /// and the VPC's own. A bridge has the addresses itself, and its range is on it.
    pub fn on_loopback(&self) -> (BTreeSet<Ipv4Addr>, BTreeSet<Ipv4Network>) {
        match self.bridge {
            None => (self.gateways.clone(), BTreeSet::from([self.cidr])),
            Some(_) => Default::default(),
        }
    }

    /// The addresses on the bridge, with the VPC's range.
    pub fn bridge_addresses(&self) -> BTreeSet<Ipv4Network> {
        let prefix = self.cidr.prefix();
        self.gateways.iter().filter_map(|ip| Ipv4Network::new(*ip, prefix).ok()).collect()
    }
}

/// A pair of virtual Ethernet links between the agent's namespace and the VPC's.
///
/// Both addresses are of one /30 of 169.254.128.0/17, which no guest uses (RFC 3927).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The end in the agent's namespace.
    pub link: LinkName,
    /// The end in the VPC's namespace.
    pub guest_link: LinkName,
    /// The address of `link`.
    pub host_addr: Ipv4Addr,
    /// The address of `guest_link`.
    pub guest_addr: Ipv4Addr,
    /// Whether guests reach what is beyond the host, behind the host's address.
    pub nat: bool,
    /// Whether the agent's namespace has a route to the VPC's range. Only one of several VPCs
    /// with overlapping ranges may have it; the others hide behind `guest_addr`.
    pub routed: bool,
    /// The addresses of a dual-stack VPC's uplink.
    #[serde(default)]
    pub ipv6: Option<UplinkV6>,
    /// Public addresses of guests of the VPC: the agent's namespace leads each of them here.
    #[serde(default)]
    pub public: BTreeSet<Ipv4Addr>,
}

/// The IPv6 addresses of both ends of an uplink: of one /64 of our own, private as RFC 4193 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkV6 {
    /// The address of the end in the agent's namespace.
    pub host_addr: Ipv6Addr,
    /// The address of the end in the VPC's.
    pub guest_addr: Ipv6Addr,
}

impl UplinkV6 {
    /// Bits of the network that both ends are in.
    pub const PREFIX: u8 = 64;
}

impl Uplink {
    /// Bits of the network that both ends are in.
    pub const PREFIX: u8 = 30;

    /// The ranges that the agent's namespace leads into `link`, where the VPC has the range `cidr`.
    pub fn host_routes(&self, cidr: Ipv4Network) -> BTreeSet<Ipv4Network> {
        let public = self.public.iter().copied().map(Ipv4Network::from);
        self.routed.then_some(cidr).into_iter().chain(public).collect()
    }

    /// The addresses that packets of the VPC carry when they come out of `link`, besides public
    /// ones.
    pub fn visible_sources(&self, cidr: Ipv4Network) -> Ipv4Network {
        if self.routed { cidr } else { Ipv4Network::from(self.guest_addr) }
    }

    /// The same of IPv6, for a VPC with the IPv6 range `range`.
    pub fn visible_sources_v6(&self, range: Option<Ipv6Network>) -> Option<Ipv6Network> {
        let ends = self.ipv6?;
        if self.routed { range } else { Some(Ipv6Network::from(ends.guest_addr)) }
    }
}

/// A bridge of our own in the VPC's namespace, whose ports are the taps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The bridge. It carries [`VpcNetwork::gateways`], with the prefix length of the VPC's range:
    /// that is where the agent's services and probes are.
    pub link: LinkName,
    /// The connection to a bridge of the operator; `None` joins the guests with each other only.
    pub joined: Option<BridgeJoin>,
}

impl Bridge {
    /// The bridge's MAC address: always the same for a VPC, so that the packet filter can send
    /// frames to it, and unlike every other one on the operator's network.
    pub fn mac(vpc_id: &VpcId) -> MacAddr {
        let mut bytes = [0; 5];
        for (n, digit) in vpc_id.digits().bytes().take(2 * bytes.len()).enumerate() {
            let value = char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
            bytes[n / 2] = bytes[n / 2] << 4 | value.unwrap_or_default();
        }
        MacAddr::from_random(bytes)
    }

    /// What the packet filter has to know about the bridge of `vpc_id`, whose own addresses are
    /// `gateways`.
    pub fn firewall(&self, vpc_id: &VpcId, gateways: &BTreeSet<Ipv4Addr>) -> FirewallBridge {
        FirewallBridge {
            link: self.link.clone(),
            mac: Self::mac(vpc_id),
            addresses: gateways.clone(),
            outside: self.joined.as_ref().map(|join| join.guest_link.clone()),
        }
    }
}

/// What joins our bridge to a LAN of the operator's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeJoin {
    /// The port of our bridge behind which the LAN is: the inner end of a pair, or a VLAN link.
    pub guest_link: LinkName,
    /// How it comes there.
    pub path: JoinPath,
}

/// A way from the VPC's namespace to the LAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinPath {
    /// By a pair of virtual Ethernet links to a bridge that the operator made: the outer end's
    /// being enslaved is all that changes about it.
    Bridge {
        /// The operator's bridge, in the agent's namespace.
        host_bridge: LinkName,
        /// The pair's outer end, a port of `host_bridge`.
        host_link: LinkName,
        /// The VLAN whose frames are taken out of the pair.
        vlan: Option<Trunk>,
    },
    /// By a pair to a bridge of our own in the agent's namespace, which has a link of the
    /// operator's as its other port. The link's being enslaved is all that changes about it.
    Uplink {
        /// The operator's link.
        uplink: LinkName,
        /// Our bridge around it.
        host_bridge: LinkName,
        /// The pair's outer end, a port of `host_bridge`.
        host_link: LinkName,
    },
    /// The port is a VLAN link on a link of the operator's, across the namespaces: nothing in the
    /// agent's namespace changes.
    Vlan {
        /// The operator's link.
        uplink: LinkName,
        /// The VLAN.
        vlan_id: u16,
    },
}

/// A VLAN link on top of a pair's inner end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trunk {
    /// The pair's inner end.
    pub link: LinkName,
    /// The VLAN.
    pub vlan_id: u16,
}

impl JoinPath {
    /// The link of the operator's that leads to the LAN.
    pub fn host_name(&self) -> &LinkName {
        match self {
            Self::Bridge { host_bridge, .. } => host_bridge,
            Self::Uplink { uplink, .. } | Self::Vlan { uplink, .. } => uplink,
        }
    }
}

/// A guest's interface: a tap, and the one address behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapInterface {
    /// The guest's MAC address (not the tap's own).
    pub mac: MacAddr,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The guest's IPv6 address, if it has one and we are its router.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// The router's address in its subnet; what the host itself calls the guest from.
    pub gateway: Ipv4Addr,
    /// The user that may open the tap besides root.
    pub owner_uid: Option<u32>,
    /// Mbit/s that may go to the guest; `None` is no limit.
    #[serde(default)]
    pub network_mbps: Option<u32>,
    /// Whether the kernel drops what does not come from where answers would go.
    #[serde(default = "checked")]
    pub source_dest_check: bool,
}

/// What interfaces are that do not say it.
fn checked() -> bool {
    true
}
