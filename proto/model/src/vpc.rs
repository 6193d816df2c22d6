//! Address spaces and ranges in them.

mod addresses;
mod addresses_v6;
mod lan;
mod ranges;
mod ranges_v6;

use std::net::Ipv4Addr;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::{GroupId, LinkName, VpcId};

pub use addresses::{AddressPool, AddressProblem};
pub use addresses_v6::AddressPoolV6;
pub use lan::{Lan, LanLink, VLAN_IDS};
pub use ranges::{
    check_map_public_ip, check_network_range, check_no_special_range, check_source_dest, parse_cidr,
};
pub(crate) use ranges::{special_range, specials};
pub use ranges_v6::{SUBNET_PREFIX_V6, UPLINKS_V6, check_vpc_range_v6, overlap_v6, parse_cidr_v6};

crate::image::words! {
    /// How the guests of a VPC are connected.
    VpcMode {
        /// Each guest has a link of its own to the VPC's router, as in EC2.
        Routed = "routed",
        /// The guests are ports of one bridge, which can be joined to a LAN of the host's.
        Bridge = "bridge",
    }
}

impl Default for VpcMode {
    /// What a VPC was before there were modes.
    fn default() -> Self {
        Self::Routed
    }
}

/// An isolated address space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcSpec {
    /// Shown to people.
    pub name: String,
    /// The whole space; with a bridge, the range of the LAN that the guests are on.
    pub cidr_block: Ipv4Network,
    /// Its IPv6 space; `None` is a VPC without IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<Ipv6Network>,
    /// How its guests are connected.
    #[serde(default)]
    pub mode: VpcMode,
    /// The host's bridge that ours is joined to. With neither this nor an uplink, the guests are
    /// joined with each other only.
    #[serde(default)]
    pub bridge_name: Option<LinkName>,
    /// The host's link that is ours as a port, or whose VLAN is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<LinkName>,
    /// The VLAN of that bridge or link; see [`VLAN_IDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<u16>,
    /// The group of interfaces that name none.
    pub default_group_id: GroupId,
    /// Whether this is the one made at the agent's first start.
    pub is_default: bool,
    /// Which /30 of 169.254.128.0/17 connects it to the agent's namespace: 0 to 8191, but not
    /// [`VpcSpec::SERVICES_UPLINK`]. The names of its links on the host have it too, so every VPC
    /// has one.
    pub uplink_index: u16,
}

impl VpcSpec {
    /// Values of [`VpcSpec::uplink_index`].
    pub const UPLINKS: u16 = 8192;

    /// The /30 with the addresses of the VPCs' own services, 169.254.169.253 and .254: no uplink.
    pub const SERVICES_UPLINK: u16 = 2687;
}

/// A VPC as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcOrder {
    /// Shown to people.
    pub name: String,
    /// The whole space.
    pub cidr_block: Ipv4Network,
    /// Its IPv6 space; with [`VpcMode::Bridge`], that of the LAN.
    pub ipv6_cidr_block: Option<Ipv6Network>,
    /// How its guests are connected.
    pub mode: VpcMode,
    /// Only with [`VpcMode::Bridge`].
    pub bridge_name: Option<LinkName>,
    /// The same; not with a bridge.
    pub uplink: Option<LinkName>,
    /// Only with one of them.
    pub vlan_id: Option<u16>,
}

/// A range of a VPC's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    /// Shown to people.
    pub name: String,
    /// Where it is.
    pub vpc_id: VpcId,
    /// The range; with a bridge, the part of the LAN that Weft gives out.
    pub cidr_block: Ipv4Network,
    /// The /64 of the VPC's IPv6 space whose addresses its interfaces get; `None` gives them none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<Ipv6Network>,
    /// The guests' router: ours, or the LAN's own where the VPC is a bridge.
    pub gateway: Ipv4Addr,
    /// What guests ask for names; empty where there is nobody to ask.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Whether new instances get an address of the public pool, unless they say otherwise.
    #[serde(default)]
    pub map_public_ip: bool,
    /// Whether instances that name no subnet get this one.
    pub is_default: bool,
}

impl SubnetSpec {
    /// The agent's own address in the subnet: what its services have, and what the host calls the
    /// guests from. In a routed VPC that is the router itself; on a bridge, the first of the three
    /// addresses behind the network's own that is not the LAN's router.
    pub fn service_address(&self, mode: VpcMode) -> Ipv4Addr {
        match mode {
            VpcMode::Routed => self.gateway,
            VpcMode::Bridge => {
                let first = reserved(self.cidr_block)[0];
                if first == self.gateway { reserved(self.cidr_block)[1] } else { first }
            }
        }
    }
}

/// The addresses of a subnet that a router or the agent may have: reserved, as in EC2.
pub(crate) fn reserved(range: Ipv4Network) -> [Ipv4Addr; 3] {
    let network = u32::from(range.network());
    [1, 2, 3].map(|n| Ipv4Addr::from(network.saturating_add(n)))
}

/// A subnet as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetOrder {
    /// Shown to people.
    pub name: String,
    /// Where it is.
    pub vpc_id: VpcId,
    /// The range.
    pub cidr_block: Ipv4Network,
    /// A /64 of the VPC's IPv6 space.
    pub ipv6_cidr_block: Option<Ipv6Network>,
    /// The guests' router; `None` is the first address of the subnet, or, with a bridge, of the
    /// LAN.
    pub gateway: Option<Ipv4Addr>,
    /// What guests ask for names.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Whether new instances get an address of the public pool, unless they say otherwise.
    pub map_public_ip: bool,
}

/// What a guest is told of the network that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestNetwork {
    /// Bits of the network that the guest reaches without a router: its subnet, or, with a bridge,
    /// the whole LAN.
    pub prefix_len: u8,
    /// Its router.
    pub gateway: Ipv4Addr,
    /// What it asks for names.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Whether it is on a LAN, whose IPv6 router advertises itself.
    pub on_lan: bool,
}

impl GuestNetwork {
    /// Of a guest in `subnet`, which is in `vpc`.
    pub fn new(vpc: &VpcSpec, subnet: &SubnetSpec) -> Self {
        let on_link = match vpc.mode {
            VpcMode::Routed => subnet.cidr_block,
            VpcMode::Bridge => vpc.cidr_block,
        };
        Self {
            prefix_len: on_link.prefix(),
            gateway: subnet.gateway,
            dns_servers: subnet.dns_servers.clone(),
            on_lan: vpc.mode == VpcMode::Bridge,
        }
    }
}

#[cfg(test)]
mod tests;
