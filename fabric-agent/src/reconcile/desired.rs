//! What a VPC's network should be, read off the world. Pure.

mod attached;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use weft_model::{
    Bridge, BridgeJoin, Firewall, FirewallGroup, FirewallPrefixList, FirewallUplink, GroupId,
    GuestAccess, HostForward, JoinPath, Lan, LanLink, LinkName, PrefixListId, RulePeer, Trunk,
    UPLINKS_V6, Uplink, UplinkV6, VpcId, VpcMode, VpcNetwork, VpcSpec,
};
use weft_planner::{HostEdge, HostRoute};

use crate::cache::World;
pub(crate) use attached::{Attached, AttachedOfAll};

/// The first /30 of the range that connects VPCs to the agent's namespace.
const UPLINKS: Ipv4Addr = Ipv4Addr::new(169, 254, 128, 0);
/// The far end's name in each VPC's namespace.
const GUEST_LINK: &str = "uplink";
/// The bridge's name in the namespace of a VPC that is one, and that of the end of the pair that
/// joins it to the host's.
const BRIDGE: &str = "bridge";
const BRIDGE_PORT: &str = "lan";
/// Its inner end where the port is a VLAN of it.
const BRIDGE_TRUNK: &str = "trunk";

/// The network of `vpc_id` with who is `attached` to it, or `None` where the VPC is not wanted.
pub(crate) fn vpc_network(
    world: &World,
    vpc_id: &VpcId,
    attached: Attached,
    prefix: &str,
) -> Option<VpcNetwork> {
    let vpc = &world.vpcs.get(vpc_id)?.spec;
    let subnets = world.subnets.values().filter(|subnet| subnet.spec.vpc_id == *vpc_id);
    let gateways: BTreeSet<Ipv4Addr> =
        subnets.map(|subnet| subnet.spec.service_address(vpc.mode)).collect();
    let uplink = uplink(vpc, prefix)
        .map(|uplink| Uplink { public: attached.nat.public.keys().copied().collect(), ..uplink });
    let bridge = match vpc.mode {
        VpcMode::Routed => None,
        VpcMode::Bridge => Some(bridge(vpc, prefix)?),
    };
    // Through a bridge only frames pass, which the packet filter knows.
    let ipv6 = vpc.ipv6_cidr_block.filter(|_| bridge.is_none());
    let in_vpc = world.groups.values().filter(|group| group.spec.vpc_id == *vpc_id);
    let mut groups: BTreeMap<GroupId, FirewallGroup> = in_vpc
        .map(|group| {
            let members = attached.members.get(&group.id).cloned().unwrap_or_default();
            let members_v6 = attached.members_v6.get(&group.id).cloned().unwrap_or_default();
            let allow_all_egress = group.spec.allow_all_egress;
            let rules = BTreeMap::new();
            let revoke_now = group.spec.revoke_now;
            let group_spec =
                FirewallGroup { members, members_v6, rules, allow_all_egress, revoke_now };
            (group.id.clone(), group_spec)
        })
        .collect();
    for rule in world.rules.values() {
        if let Some(group) = groups.get_mut(&rule.spec.group_id) {
            group.rules.insert(rule.id.clone(), rule.spec.clone());
        }
    }
    let prefix_lists = prefix_lists(world, &groups);
    let firewall = Firewall {
        groups,
        prefix_lists,
        interfaces: attached.filtered,
        uplink: uplink.as_ref().map(|uplink| FirewallUplink {
            link: uplink.guest_link.clone(),
            vpc_cidr: vpc.cidr_block,
            masquerade: !uplink.routed,
        }),
        bridge: bridge.as_ref().map(|bridge| bridge.firewall(vpc_id, &gateways)),
        gateways: gateways.clone(),
        range: Some(vpc.cidr_block),
        ipv6: vpc.ipv6_cidr_block,
        nat: attached.nat,
    };
    let routes = routes::routes(world, vpc_id, &attached.taps);
    let (vpc_id, cidr, interfaces) = (vpc_id.clone(), vpc.cidr_block, attached.taps);
    Some(VpcNetwork { vpc_id, cidr, ipv6, gateways, bridge, uplink, interfaces, routes, firewall })
}

/// Those that some rule names.
fn prefix_lists(
    world: &World,
    groups: &BTreeMap<GroupId, FirewallGroup>,
) -> BTreeMap<PrefixListId, FirewallPrefixList> {
    let rules = groups.values().flat_map(|group| group.rules.values());
    let named = rules.filter_map(|rule| match &rule.peer {
        RulePeer::PrefixList(id) => Some(id),
        _ => None,
    });
    let named: BTreeSet<_> = named.collect();
    let lists = named.into_iter().filter_map(|id| world.prefix_lists.get(id));
    lists
        .map(|list| {
            let (family, ranges) = (list.spec.address_family, list.spec.ranges());
            (list.id.clone(), FirewallPrefixList { family, ranges })
        })
        .collect()
}

/// The packet filter of a VPC as it is enforced, or would be.
pub(crate) fn firewall_of(world: &World, vpc_id: &VpcId, prefix: &str) -> Option<Firewall> {
    let mut attached = AttachedOfAll::default();
    attached.renew(world, &BTreeSet::new());
    Some(vpc_network(world, vpc_id, attached.of(vpc_id), prefix)?.firewall)
}

/// What the agent's own namespace does for the VPCs, by the name of their uplink.
pub(crate) fn host_routes(world: &World, prefix: &str) -> BTreeMap<LinkName, HostRoute> {
    world
        .vpcs
        .values()
        .filter_map(|vpc| {
            let uplink = uplink(&vpc.spec, prefix)?;
            let sources = uplink.visible_sources(vpc.spec.cidr_block);
            let sources_v6 = uplink.visible_sources_v6(vpc.spec.ipv6_cidr_block);
            Some((uplink.link, HostRoute { sources, sources_v6, masquerade: uplink.nat }))
        })
        .collect()
}

/// What passes the edge of the host, with all the VPCs' networks as they are `desired`.
pub(crate) fn host_edge(
    world: &World,
    desired: &BTreeMap<VpcId, Arc<VpcNetwork>>,
    guest_access: &BTreeSet<GuestAccess>,
) -> HostEdge {
    let public = desired.values().flat_map(|network| network.firewall.nat.public.keys().copied());
    let forwards = world.port_forwards.values().filter_map(|forward| {
        let interface = world.interface_of(&forward.spec.target)?;
        let uplink = desired.get(&interface.vpc_id)?.uplink.as_ref()?;
        Some(HostForward {
            protocol: forward.spec.protocol,
            port: forward.spec.host_port,
            address: forward.spec.host_address,
            to: uplink.guest_addr,
        })
    });
    HostEdge {
        public: public.collect(),
        forwards: forwards.collect(),
        guest_access: guest_access.clone(),
    }
}

/// Ours in the VPC's namespace, joined to the operator's LAN where one is named.
fn bridge(vpc: &VpcSpec, prefix: &str) -> Option<Bridge> {
    let joined = match vpc.lan() {
        None => None,
        Some(lan) => Some(BridgeJoin {
            guest_link: BRIDGE_PORT.parse().ok()?,
            path: path(lan, vpc.uplink_index, prefix)?,
        }),
    };
    Some(Bridge { link: BRIDGE.parse().ok()?, joined })
}

fn path(lan: Lan, index: u16, prefix: &str) -> Option<JoinPath> {
    let host_link = format!("{prefix}b{index}").parse().ok()?;
    Some(match (lan.link, lan.vlan_id) {
        (LanLink::Bridge(host_bridge), None) => {
            JoinPath::Bridge { host_bridge, host_link, vlan: None }
        }
        (LanLink::Bridge(host_bridge), Some(vlan_id)) => {
            let vlan = Some(Trunk { link: BRIDGE_TRUNK.parse().ok()?, vlan_id });
            JoinPath::Bridge { host_bridge, host_link, vlan }
        }
        (LanLink::Uplink(uplink), None) => {
            let host_bridge = format!("{prefix}l{index}").parse().ok()?;
            JoinPath::Uplink { uplink, host_bridge, host_link }
        }
        (LanLink::Uplink(uplink), Some(vlan_id)) => JoinPath::Vlan { uplink, vlan_id },
    })
}

/// A bridge has none: the way out is the LAN's own router.
fn uplink(vpc: &VpcSpec, prefix: &str) -> Option<Uplink> {
    if vpc.mode == VpcMode::Bridge {
        return None;
    }
    let network = u32::from(UPLINKS) + u32::from(vpc.uplink_index) * 4;
    Some(Uplink {
        link: format!("{prefix}u{}", vpc.uplink_index).parse().ok()?,
        guest_link: GUEST_LINK.parse().ok()?,
        host_addr: Ipv4Addr::from(network + 1),
        guest_addr: Ipv4Addr::from(network + 2),
        nat: true,
        routed: vpc.is_default,
        ipv6: vpc.ipv6_cidr_block.map(|_| uplink_v6(vpc.uplink_index)),
        public: BTreeSet::new(),
    })
}

/// The /64 of [`UPLINKS_V6`] with the uplink's number.
fn uplink_v6(index: u16) -> UplinkV6 {
    let [a, b, c, ..] = UPLINKS_V6.segments();
    let end = |n| Ipv6Addr::new(a, b, c, index, 0, 0, 0, n);
    UplinkV6 { host_addr: end(1), guest_addr: end(2) }
}

#[cfg(test)]
mod tests;
