//! Who is attached to a VPC on this host, and who is a member of which group. Pure.
//!
//! All of it takes a look at each instance, so it is made anew only when something that it is made
//! of has changed; a changed rule, however many members its group has, is not such a thing. Parts
//! that come out as they were are the same ones in memory, and so compared at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use weft_model::{
    FirewallForward, FirewallInterface, FirewallNat, GroupId, InstanceId, InstanceSpec, Interface,
    LinkName, PortForwardSpec, PowerState, Record, TapInterface, Target, VpcId, VpcMode,
};
use weft_planner::{Wanted, wanted};

use crate::cache::World;

/// Of one VPC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attached {
    /// The taps, by name.
    pub(super) taps: Arc<BTreeMap<LinkName, TapInterface>>,
    /// The same for the packet filter.
    pub(super) filtered: Arc<BTreeMap<LinkName, FirewallInterface>>,
    /// The addresses of each group's members, also of instances that are off.
    pub(super) members: BTreeMap<GroupId, Arc<BTreeSet<Ipv4Addr>>>,
    /// Their IPv6 addresses, where they have some.
    pub(super) members_v6: BTreeMap<GroupId, Arc<BTreeSet<Ipv6Addr>>>,
    /// Public addresses and forwarded ports, also of instances that are off: nobody else has them.
    pub(super) nat: FirewallNat,
}

/// Of all VPCs, remembered from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct AttachedOfAll {
    by_vpc: BTreeMap<VpcId, Attached>,
    /// [`World::layout`] and the released instances that it was made of.
    of: Option<(u64, BTreeSet<InstanceId>)>,
}

impl AttachedOfAll {
    /// Made anew if anything that it is made of has changed. Instances in `released` have given
    /// back their interface.
    pub(crate) fn renew(&mut self, world: &World, released: &BTreeSet<InstanceId>) {
        let current =
            |(layout, of): &(u64, BTreeSet<InstanceId>)| *layout == world.layout && of == released;
        if self.of.as_ref().is_some_and(current) {
            return;
        }
        let mut before = std::mem::replace(&mut self.by_vpc, all(world, released));
        for (vpc_id, attached) in &mut self.by_vpc {
            if let Some(before) = before.remove(vpc_id) {
                attached.reuse(before);
            }
        }
        self.of = Some((world.layout, released.clone()));
    }

    /// Of one VPC; nothing where nobody is attached.
    pub(crate) fn of(&self, vpc_id: &VpcId) -> Attached {
        self.by_vpc.get(vpc_id).cloned().unwrap_or_default()
    }
}

impl Attached {
    /// Takes over the parts of `before` that are equal.
    fn reuse(&mut self, before: Self) {
        if self.taps == before.taps {
            self.taps = before.taps;
        }
        if self.filtered == before.filtered {
            self.filtered = before.filtered;
        }
        reuse(&mut self.members, before.members);
        reuse(&mut self.members_v6, before.members_v6);
    }
}

fn reuse<A: Ord>(
    members: &mut BTreeMap<GroupId, Arc<BTreeSet<A>>>,
    mut before: BTreeMap<GroupId, Arc<BTreeSet<A>>>,
) {
    for (group, members) in members {
        if let Some(before) = before.remove(group)
            && *members == before
        {
            *members = before;
        }
    }
}

fn all(world: &World, released: &BTreeSet<InstanceId>) -> BTreeMap<VpcId, Attached> {
    let mut by_vpc = BTreeMap::new();
    let has_link = |instance: &Record<InstanceId, InstanceSpec>| {
        let InstanceSpec { uid, network_mbps, .. } = instance.spec;
        (!released.contains(&instance.id) && needs_link(world, instance))
            .then_some(Guest { uid, network_mbps })
    };
    for instance in world.instances.values().filter(|instance| !released.contains(&instance.id)) {
        let interface = &instance.spec.interface;
        add(&mut by_vpc, world, interface, has_link(instance));
        if let (Some(public), Some(attached)) =
            (instance.spec.public_ip, by_vpc.get_mut(&interface.vpc_id))
        {
            attached.nat.public.insert(public, interface.private_ip);
        }
    }
    // Those that are on their own are members of their groups too, wherever they are attached.
    for own in world.network_interfaces.values() {
        let instance = world.interface(&own.id).and_then(|placed| placed.instance);
        add(&mut by_vpc, world, &own.spec.interface, instance.and_then(has_link));
    }
    add_public(world, released, &mut by_vpc);
    by_vpc
}

/// What leads to guests from outside.
fn add_public(
    world: &World,
    released: &BTreeSet<InstanceId>,
    by_vpc: &mut BTreeMap<VpcId, Attached>,
) {
    let reached = |target: &Target| {
        if target.instance_id().is_some_and(|id| released.contains(id)) {
            return None;
        }
        let interface = world.interface_of(target)?;
        Some((interface.vpc_id.clone(), interface.private_ip))
    };
    for association in world.associations.values() {
        let eip = world.elastic_ips.get(&association.spec.elastic_ip_id);
        if let (Some(eip), Some((vpc_id, own))) = (eip, reached(&association.spec.target)) {
            by_vpc.entry(vpc_id).or_default().nat.public.insert(eip.spec.public_ip, own);
        }
    }
    for forward in world.port_forwards.values() {
        let PortForwardSpec { protocol, host_port, target, target_port, .. } = &forward.spec;
        if let Some((vpc_id, address)) = reached(target) {
            let (protocol, port, target_port) = (*protocol, *host_port, *target_port);
            let forward = FirewallForward { protocol, port, address, target_port };
            by_vpc.entry(vpc_id).or_default().nat.forwards.insert(forward);
        }
    }
}

/// Who may be behind a link.
#[derive(Clone, Copy)]
struct Guest {
    /// The user that its hypervisor runs as.
    uid: u32,
    /// What its type limits an interface to that has no limit of its own.
    network_mbps: Option<u32>,
}

/// Adds an interface, with its link where a guest may be behind it.
fn add(
    by_vpc: &mut BTreeMap<VpcId, Attached>,
    world: &World,
    interface: &Interface,
    guest: Option<Guest>,
) {
    let Some(vpc) = world.vpcs.get(&interface.vpc_id) else { return };
    let Some(subnet) = world.subnets.get(&interface.subnet_id) else { return };
    let attached = by_vpc.entry(vpc.id.clone()).or_default();
    let groups = world.groups_of(interface);
    let (mac, address, ipv6) = (interface.mac, interface.private_ip, interface.ipv6);
    for id in &groups {
        Arc::make_mut(attached.members.entry(id.clone()).or_default()).insert(address);
        if let Some(ipv6) = ipv6 {
            Arc::make_mut(attached.members_v6.entry(id.clone()).or_default()).insert(ipv6);
        }
    }
    let Some(guest) = guest else { return };
    let network_mbps = interface.network_mbps.or(guest.network_mbps);
    let owner_uid = Some(guest.uid);
    let gateway = subnet.spec.service_address(vpc.spec.mode);
    // Ports of a bridge are checked as frames, whatever is asked for.
    let source_dest_check = interface.source_dest_check || vpc.spec.mode == VpcMode::Bridge;
    let routed_v6 = ipv6.filter(|_| vpc.spec.mode == VpcMode::Routed);
    let tap = TapInterface {
        mac,
        address,
        ipv6: routed_v6,
        gateway,
        owner_uid,
        network_mbps,
        source_dest_check,
    };
    let link = interface.link.clone();
    Arc::make_mut(&mut attached.taps).insert(link.clone(), tap);
    let filtered =
        FirewallInterface { mac, address, ipv6, groups, source_dest_check, network_mbps };
    Arc::make_mut(&mut attached.filtered).insert(link, filtered);
}

/// Whether a guest may be behind its link: an instance that is off keeps its address, its MAC and
/// its groups, and takes nothing of the host's network.
fn needs_link(world: &World, instance: &Record<InstanceId, InstanceSpec>) -> bool {
    // Made stopped, and nothing else was ever asked for.
    if instance.generation == 1 && instance.spec.power == PowerState::Stopped {
        return false;
    }
    let Some(status) = world.statuses.get(&instance.id) else { return true };
    !(status.state.is_off() && matches!(wanted(instance, status), Wanted::Off | Wanted::Hibernated))
}
