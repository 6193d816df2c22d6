//! What a VPC's network should be, read off the world. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use weft_model::{
    Bridge, BridgeJoin, Firewall, FirewallGroup, FirewallInterface, FirewallUplink, GroupId,
    InstanceId, LinkName, TapInterface, Uplink, VpcId, VpcMode, VpcNetwork, VpcSpec,
};
use weft_planner::HostRoute;

use crate::cache::World;

/// The first /30 of the range that connects VPCs to the agent's namespace.
const UPLINKS: Ipv4Addr = Ipv4Addr::new(169, 254, 128, 0);
/// The far end's name in each VPC's namespace.
const GUEST_LINK: &str = "uplink";
/// The bridge's name in the namespace of a VPC that is one, and that of the end of the pair that
/// joins it to the host's.
const BRIDGE: &str = "bridge";
const BRIDGE_PORT: &str = "lan";

/// The network of `vpc_id`, or `None` where the VPC is not wanted. Instances in `released` have
/// given back their interface.
pub(crate) fn vpc_network(
    world: &World,
    vpc_id: &VpcId,
    released: &BTreeSet<InstanceId>,
    prefix: &str,
) -> Option<VpcNetwork> {
    let vpc = &world.vpcs.get(vpc_id)?.spec;
    let subnets = world.subnets.values().filter(|subnet| subnet.spec.vpc_id == *vpc_id);
    let gateways: BTreeSet<Ipv4Addr> =
        subnets.map(|subnet| subnet.spec.service_address(vpc.mode)).collect();
    let uplink = uplink(vpc, prefix);
    let bridge = match vpc.mode {
        VpcMode::Routed => None,
        VpcMode::Bridge => Some(bridge(vpc, prefix)?),
    };
    let mut groups: BTreeMap<GroupId, FirewallGroup> = world
        .groups
        .values()
        .filter(|group| group.spec.vpc_id == *vpc_id)
        .map(|group| {
            let allow_all_egress = group.spec.allow_all_egress;
            (group.id.clone(), FirewallGroup { allow_all_egress, ..FirewallGroup::default() })
        })
        .collect();
    for rule in world.rules.values() {
        if let Some(group) = groups.get_mut(&rule.spec.group_id) {
            group.rules.insert(rule.id.clone(), rule.spec.clone());
        }
    }
    let (mut interfaces, mut filtered) = (BTreeMap::new(), BTreeMap::new());
    for instance in world.instances.values() {
        let interface = &instance.spec.interface;
        if interface.vpc_id != *vpc_id || released.contains(&instance.id) {
            continue;
        }
        let Some(subnet) = world.subnets.get(&interface.subnet_id) else { continue };
        let member_of = match &interface.security_group_ids {
            Some(ids) => ids.clone(),
            None => BTreeSet::from([vpc.default_group_id.clone()]),
        };
        for id in &member_of {
            if let Some(group) = groups.get_mut(id) {
                group.members.insert(interface.private_ip);
            }
        }
        let (mac, address) = (interface.mac, interface.private_ip);
        let owner_uid = Some(instance.spec.uid);
        let gateway = subnet.spec.service_address(vpc.mode);
        interfaces
            .insert(interface.link.clone(), TapInterface { mac, address, gateway, owner_uid });
        filtered
            .insert(interface.link.clone(), FirewallInterface { mac, address, groups: member_of });
    }
    let firewall = Firewall {
        groups,
        interfaces: filtered,
        uplink: uplink.as_ref().map(|uplink| FirewallUplink {
            link: uplink.guest_link.clone(),
            vpc_cidr: vpc.cidr_block,
            masquerade: !uplink.routed,
        }),
        bridge: bridge.as_ref().map(|bridge| bridge.firewall(vpc_id, &gateways)),
        gateways: gateways.clone(),
    };
    let (vpc_id, cidr) = (vpc_id.clone(), vpc.cidr_block);
    Some(VpcNetwork { vpc_id, cidr, gateways, bridge, uplink, interfaces, firewall })
}

/// What the agent's own namespace does for the VPCs, by the name of their uplink.
pub(crate) fn host_routes(world: &World, prefix: &str) -> BTreeMap<LinkName, HostRoute> {
    world
        .vpcs
        .values()
        .filter_map(|vpc| {
            let uplink = uplink(&vpc.spec, prefix)?;
            let sources = uplink.visible_sources(vpc.spec.cidr_block);
            Some((uplink.link, HostRoute { sources, masquerade: uplink.nat }))
        })
        .collect()
}

/// Ours in the VPC's namespace, joined to the operator's where one is named.
fn bridge(vpc: &VpcSpec, prefix: &str) -> Option<Bridge> {
    let joined = match &vpc.bridge_name {
        None => None,
        Some(host_bridge) => Some(BridgeJoin {
            host_bridge: host_bridge.clone(),
            host_link: format!("{prefix}b{}", vpc.uplink_index).parse().ok()?,
            guest_link: BRIDGE_PORT.parse().ok()?,
        }),
    };
    Some(Bridge { link: BRIDGE.parse().ok()?, joined })
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
    })
}

#[cfg(test)]
mod tests;
