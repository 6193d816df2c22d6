//! What the packet filter of a VPC lets through, as data; [`super::verdict`] says what that means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::{
    AddressFamily, GroupId, LinkName, MacAddr, PrefixListId, PrefixRange, RuleId, RuleSpec,
    TransportProtocol,
};

/// The packet filter of one VPC's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// Every group of the VPC, whether it has members here or not.
    pub groups: BTreeMap<GroupId, FirewallGroup>,
    /// The prefix lists that rules of these groups name.
    #[serde(default)]
    pub prefix_lists: BTreeMap<PrefixListId, FirewallPrefixList>,
    /// The interfaces on this host, by the name of their tap. Shared by those who remember it: most
    /// changes are of rules.
    pub interfaces: Arc<BTreeMap<LinkName, FirewallInterface>>,
    /// The way out of the VPC.
    pub uplink: Option<FirewallUplink>,
    /// The bridge whose ports the interfaces are; `None` where they are routed.
    #[serde(default)]
    pub bridge: Option<FirewallBridge>,
    /// The routers' addresses: guests may ask them for names and for their own address.
    #[serde(default)]
    pub gateways: BTreeSet<Ipv4Addr>,
    /// The VPC's range: interfaces that send from anywhere do not from it.
    #[serde(default)]
    pub range: Option<Ipv4Network>,
    /// The VPC's IPv6 range; without one no IPv6 packet passes.
    #[serde(default)]
    pub ipv6: Option<Ipv6Network>,
    /// What guests are called outside of the VPC.
    #[serde(default)]
    pub nat: FirewallNat,
}

/// A group as the packet filter sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallGroup {
    /// The addresses of all members, on every host; shared like [`Firewall::interfaces`].
    pub members: Arc<BTreeSet<Ipv4Addr>>,
    /// The IPv6 addresses of all members that have one; shared likewise.
    #[serde(default)]
    pub members_v6: Arc<BTreeSet<Ipv6Addr>>,
    /// Its rules.
    pub rules: BTreeMap<RuleId, RuleSpec>,
    /// Whether members may open any connection to anywhere.
    pub allow_all_egress: bool,
    /// Whether connections of members are cut that nothing admits any more.
    #[serde(default)]
    pub revoke_now: bool,
}

/// A prefix list as the packet filter sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallPrefixList {
    /// Of all of its ranges.
    pub family: AddressFamily,
    /// In order, and none touches another.
    pub ranges: Vec<PrefixRange>,
}

/// What is known, and enforced, about a tap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallInterface {
    /// The only source MAC let in.
    pub mac: MacAddr,
    /// The only source address let in where sources are checked.
    pub address: Ipv4Addr,
    /// The only IPv6 source let in besides the link's own; `None` lets no IPv6 in.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Its groups; with none, nothing passes.
    pub groups: BTreeSet<GroupId>,
    /// Whether it may send only from its own addresses; else also from any outside of the VPC. On a
    /// bridge all are checked.
    #[serde(default = "checked")]
    pub source_dest_check: bool,
    /// Mbit/s that its guest may send; `None` is no limit.
    #[serde(default)]
    pub network_mbps: Option<u32>,
}

/// What interfaces of packet filters are that do not say it.
fn checked() -> bool {
    true
}

/// The link out of the VPC, as seen from inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallUplink {
    /// The end in the VPC's namespace.
    pub link: LinkName,
    /// The VPC's range: nobody outside may claim an address of it.
    pub vpc_cidr: Ipv4Network,
    /// Whether guests appear outside as this link's own address.
    pub masquerade: bool,
}

/// Addresses that guests have besides their own, one to one, and ports that lead to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallNat {
    /// The guest's own address by its public one.
    pub public: BTreeMap<Ipv4Addr, Ipv4Addr>,
    /// Ports of the uplink's inner address: the host sends there what came to a port of its own.
    pub forwards: BTreeSet<FirewallForward>,
}

/// A port of the uplink's address that leads to a guest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FirewallForward {
    /// Of which protocol.
    pub protocol: TransportProtocol,
    /// Where packets come to.
    pub port: u16,
    /// The guest.
    pub address: Ipv4Addr,
    /// Its port.
    pub target_port: u16,
}

/// Our bridge, as seen from inside the VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallBridge {
    /// The bridge.
    pub link: LinkName,
    /// Its MAC: where frames for the agent's services go.
    pub mac: MacAddr,
    /// Its own addresses: nobody else may claim one of them.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// The port behind which the operator's network is.
    pub outside: Option<LinkName>,
}

impl FirewallGroup {
    /// Whether the address is that of a member.
    pub fn has_member(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.members.contains(&address),
            IpAddr::V6(address) => self.members_v6.contains(&address),
        }
    }
}
