use std::sync::Arc;

use weft_model::{
    AssociationId, AssociationSpec, ElasticIpId, ElasticIpSpec, InstanceId, InstanceState,
    InstanceStatus, InterfaceId, NetworkInterfaceSpec, PortForwardId, PortForwardSpec, PowerState,
    Target, Timestamp, TransportProtocol,
};

use super::*;
use crate::repo::{ElasticIps, RecordOf};
use crate::testing::{group, group_id, instance, record, subnet, vpc, vpc_id};

/// Two VPCs; the first with the groups 0 (default) and 5, and three instances.
fn world() -> World {
    let mut world = World::default();
    for n in [0, 1] {
        world.vpcs.insert(vpc_id(n), Arc::new(vpc(n)));
        let subnet = subnet(n);
        world.subnets.insert(subnet.id.clone(), Arc::new(subnet));
    }
    for (n, of) in [(0, 0), (5, 0), (1, 1)] {
        world.groups.insert(group_id(n), Arc::new(group(n, of)));
    }
    let instances = [
        instance(4, 0, None),
        instance(5, 0, Some(&[5])),
        instance(6, 0, Some(&[0, 5])),
        instance(7, 1, None),
    ];
    for instance in instances {
        world.put_instance(instance);
    }
    world
}

fn network(released: &[u8]) -> VpcNetwork {
    let released = released.iter().map(|n| InstanceId::from_random([*n; 9])).collect();
    network_of(&world(), 0, &released).unwrap()
}

fn network_of(world: &World, vpc: u8, released: &BTreeSet<InstanceId>) -> Option<VpcNetwork> {
    let mut attached = AttachedOfAll::default();
    attached.renew(world, released);
    vpc_network(world, &vpc_id(vpc), attached.of(&vpc_id(vpc)), "weft")
}

fn members(network: &VpcNetwork, n: u8) -> Vec<u8> {
    let group = &network.firewall.groups[&group_id(n)];
    group.members.iter().map(|address| address.octets()[3]).collect()
}

#[test]
fn an_interface_without_groups_is_in_the_default_group() {
    let network = network(&[]);
    assert_eq!(members(&network, 0), [4, 6]);
    assert_eq!(members(&network, 5), [5, 6]);
    assert_eq!(network.interfaces.len(), 3, "only those of this VPC");
    assert_eq!(network.interfaces.len(), network.firewall.interfaces.len());
}

#[test]
fn an_instance_that_has_given_back_its_interface_is_nowhere() {
    let network = network(&[6]);
    assert_eq!((members(&network, 0), members(&network, 5)), (vec![4], vec![5]));
    assert!(!network.interfaces.contains_key(&"weft6".parse::<LinkName>().unwrap()));
}

#[test]
fn an_instance_that_is_off_is_a_member_without_a_link() {
    let mut world = world();
    let id = InstanceId::from_random([5; 9]);
    let mut off = instance(5, 0, Some(&[5]));
    off.spec.power = PowerState::Stopped;
    off.generation = 2;
    let stopped = |state, ended_epoch| {
        let accepted = InstanceStatus::accepted(Timestamp::UNIX_EPOCH);
        Arc::new(InstanceStatus { state, ended_epoch, ..accepted })
    };
    world.instances.insert(id.clone(), Arc::new(off.clone()));
    world.statuses.insert(id.clone(), stopped(InstanceState::Stopping, 0));
    let links = |world: &World| {
        let network = network_of(world, 0, &BTreeSet::new()).unwrap();
        assert_eq!(members(&network, 5), [5, 6], "its address and its groups are still its own");
        assert_eq!(network.interfaces.len(), network.firewall.interfaces.len());
        network.interfaces.len()
    };
    assert_eq!(links(&world), 3, "its guest may still run");
    world.statuses.insert(id.clone(), stopped(InstanceState::Stopped, 1));
    assert_eq!(links(&world), 2);
    off.spec.power = PowerState::Running;
    assert_eq!(off.spec.run_epoch, 1);
    world.instances.insert(id.clone(), Arc::new(off.clone()));
    assert_eq!(links(&world), 2, "the launch has ended, and is not repeated");
    off.spec.run_epoch = 2;
    world.instances.insert(id.clone(), Arc::new(off.clone()));
    assert_eq!(links(&world), 3, "before its next guest is started");
    world.statuses.remove(&id);
    (off.generation, off.spec.power) = (1, PowerState::Stopped);
    world.instances.insert(id, Arc::new(off));
    assert_eq!(links(&world), 2, "made stopped");
}

#[test]
fn an_interface_is_limited_by_itself_or_else_by_the_type_of_its_instance() {
    for (own, of_type, want) in [
        (None, None, None),
        (None, Some(50), Some(50)),
        (Some(10), Some(50), Some(10)),
        (Some(90), None, Some(90)),
    ] {
        let mut world = world();
        let mut limited = instance(4, 0, None);
        limited.spec.network_mbps = of_type;
        limited.spec.interface.network_mbps = own;
        let link = limited.spec.interface.link.clone();
        world.instances.insert(limited.id.clone(), Arc::new(limited));
        let network = network_of(&world, 0, &BTreeSet::new()).unwrap();
        assert_eq!(network.interfaces[&link].network_mbps, want, "to the guest");
        assert_eq!(network.firewall.interfaces[&link].network_mbps, want, "from the guest");
        let others = network.interfaces.iter().filter(|(other, _)| **other != link);
        assert!(others.map(|(_, tap)| tap.network_mbps).all(|limit| limit.is_none()));
    }
}

#[test]
fn who_is_attached_is_looked_at_again_only_when_that_has_changed() {
    let mut world = world();
    let mut attached = AttachedOfAll::default();
    attached.renew(&world, &BTreeSet::new());
    let before = attached.of(&vpc_id(0));
    let first = instance(4, 0, None);
    world.instances.remove(&first.id);
    attached.renew(&world, &BTreeSet::new());
    assert_eq!(attached.of(&vpc_id(0)), before, "the world does not say that it has changed");
    world.layout += 1;
    attached.renew(&world, &BTreeSet::new());
    let after = attached.of(&vpc_id(0));
    assert_eq!(after.taps.len(), 2);
    let group = group_id(5);
    assert!(Arc::ptr_eq(&after.members[&group], &before.members[&group]), "not that group");
    attached.renew(&world, &[InstanceId::from_random([6; 9])].into());
    assert_eq!(attached.of(&vpc_id(0)).taps.len(), 1, "released instances are looked at too");
}

#[test]
fn each_vpc_has_a_way_out_of_its_own_and_the_default_one_is_routed() {
    let routes = host_routes(&world(), "weft");
    let shown: Vec<String> =
        routes.iter().map(|(link, route)| format!("{link} {}", route.sources)).collect();
    assert_eq!(shown, ["weftu0 10.0.0.0/16", "weftu1 169.254.128.6/32"]);
    let network = network(&[]);
    let uplink = network.uplink.unwrap();
    assert_eq!(uplink.host_addr, Ipv4Addr::new(169, 254, 128, 1));
    assert!(uplink.routed && uplink.nat);
}

#[test]
fn a_vpc_that_is_not_wanted_has_no_network() {
    assert_eq!(network_of(&world(), 9, &BTreeSet::new()), None);
}

/// How the bridge of VPC 1 is joined where that is `lan`.
fn joined_by(world: &mut World, lan: &weft_model::Record<VpcId, VpcSpec>) -> Option<JoinPath> {
    world.vpcs.insert(vpc_id(1), Arc::new(lan.clone()));
    let network = network_of(world, 1, &BTreeSet::new()).unwrap();
    let joined = network.bridge.unwrap().joined?;
    assert_eq!(network.firewall.bridge.unwrap().outside.as_ref(), Some(&joined.guest_link));
    Some(joined.path)
}

#[test]
fn a_bridge_is_joined_to_the_hosts_and_leaves_the_way_out_to_the_lan() {
    let mut world = world();
    let mut lan = vpc(1);
    lan.spec.mode = VpcMode::Bridge;
    lan.spec.bridge_name = Some("br0".parse().unwrap());
    world.vpcs.insert(vpc_id(1), Arc::new(lan.clone()));
    let network = network_of(&world, 1, &BTreeSet::new()).unwrap();
    let agent = Ipv4Addr::new(10, 1, 0, 2);
    assert_eq!(network.gateways, BTreeSet::from([agent]), "10.1.0.1 is the LAN's router");
    assert_eq!(network.interfaces.values().map(|tap| tap.gateway).collect::<Vec<_>>(), [agent]);
    assert_eq!((network.uplink, network.firewall.uplink), (None, None));
    let known = network.firewall.bridge.unwrap();
    assert_eq!(known.addresses, BTreeSet::from([agent]));
    let joined = network.bridge.unwrap().joined.unwrap();
    assert_eq!(known.outside.as_ref(), Some(&joined.guest_link), "the packet filter knows the way");
    let by_pair = |vlan| JoinPath::Bridge {
        host_bridge: "br0".parse().unwrap(),
        host_link: "weftb1".parse().unwrap(),
        vlan,
    };
    assert_eq!(joined.path, by_pair(None));
    assert_eq!(host_routes(&world, "weft").len(), 1, "only the routed one");

    lan.spec.bridge_name = None;
    assert_eq!(joined_by(&mut world, &lan), None);

    // A VLAN, and a link that is no bridge: the packet filter knows the same port in each case.
    lan.spec.vlan_id = Some(20);
    lan.spec.bridge_name = Some("br0".parse().unwrap());
    let trunk = Trunk { link: "trunk".parse().unwrap(), vlan_id: 20 };
    assert_eq!(joined_by(&mut world, &lan), Some(by_pair(Some(trunk))));
    lan.spec.bridge_name = None;
    lan.spec.uplink = Some("eth1".parse().unwrap());
    let uplink = || "eth1".parse().unwrap();
    let path = JoinPath::Vlan { uplink: uplink(), vlan_id: 20 };
    assert_eq!(joined_by(&mut world, &lan), Some(path));
    lan.spec.vlan_id = None;
    let path = JoinPath::Uplink {
        uplink: uplink(),
        host_bridge: "weftl1".parse().unwrap(),
        host_link: "weftb1".parse().unwrap(),
    };
    assert_eq!(joined_by(&mut world, &lan), Some(path));
}

/// An elastic IP `198.18.0.N`.
#[test]
fn over_a_bridge_ipv6_passes_as_frames_that_the_packet_filter_alone_knows() {
    let range = Some("fd00:1:2:3::/64".parse().unwrap());
    let own = "fd00:1:2:3::7".parse().unwrap();
    let mut world = world();
    for (mode, routed) in [(VpcMode::Routed, true), (VpcMode::Bridge, false)] {
        let (mut lan, mut guest) = (vpc(1), instance(7, 1, None));
        (lan.spec.mode, lan.spec.ipv6_cidr_block) = (mode, range);
        guest.spec.interface.ipv6 = Some(own);
        world.vpcs.insert(vpc_id(1), Arc::new(lan));
        world.put_instance(guest);
        let network = network_of(&world, 1, &BTreeSet::new()).unwrap();
        assert_eq!(network.ipv6, range.filter(|_| routed), "{mode}");
        assert!(network.interfaces.values().all(|tap| tap.ipv6.is_some() == routed), "{mode}");
        assert_eq!(network.firewall.ipv6, range, "{mode}");
        assert!(network.firewall.interfaces.values().all(|one| one.ipv6 == Some(own)), "{mode}");
        assert_eq!(network.firewall.groups[&group_id(1)].members_v6.len(), 1, "{mode}");
    }
}

fn elastic_ip(n: u8) -> RecordOf<ElasticIps> {
    let public_ip = Ipv4Addr::new(198, 18, 0, n);
    let spec = ElasticIpSpec { name: None, chosen: false, public_ip };
    record(ElasticIpId::from_random([n; 9]), spec)
}

fn lead(world: &mut World, n: u8, target: Target) {
    let eip = elastic_ip(n);
    let spec = AssociationSpec { elastic_ip_id: eip.id.clone(), target: target.clone() };
    let id = AssociationId::new(eip.id.clone(), target);
    world.elastic_ips.insert(eip.id.clone(), Arc::new(eip));
    world.associations.insert(id.clone(), Arc::new(record(id, spec)));
}

#[test]
fn what_leads_to_guests_is_translated_in_their_vpc_and_led_there_by_the_host() {
    let mut world = world();
    let target = |n: u8| Target::Instance(InstanceId::from_random([n; 9]));
    lead(&mut world, 1, target(4));
    let mut interface = instance(8, 1, None).spec.interface;
    interface.id = InterfaceId::from_random([8; 9]);
    let own =
        record(interface.id.clone(), NetworkInterfaceSpec { name: "back".to_owned(), interface });
    lead(&mut world, 2, Target::Interface(own.id.clone()));
    world.network_interfaces.insert(own.id.clone(), Arc::new(own));
    let unused = elastic_ip(3);
    world.elastic_ips.insert(unused.id.clone(), Arc::new(unused));
    let spec = PortForwardSpec {
        name: "web".parse().unwrap(),
        protocol: TransportProtocol::Tcp,
        host_address: None,
        host_port: 8080,
        target: target(7),
        target_port: 80,
    };
    let forward = record(PortForwardId::from_random([1; 9]), spec);
    world.port_forwards.insert(forward.id.clone(), Arc::new(forward));
    let own = Ipv4Addr::new(198, 18, 0, 9);
    let mut with_own = instance(5, 0, None);
    with_own.spec.public_ip = Some(own);
    world.instances.insert(with_own.id.clone(), Arc::new(with_own));

    let none = BTreeSet::new();
    let [first, second] = [0, 1].map(|n| network_of(&world, n, &none).unwrap());
    let public = |n: u8| Ipv4Addr::new(198, 18, 0, n);
    let wanted =
        [(public(1), Ipv4Addr::new(10, 0, 0, 4)), (own, Ipv4Addr::new(10, 0, 0, 5))].into();
    assert_eq!(first.firewall.nat.public, wanted);
    assert_eq!(first.uplink.as_ref().unwrap().public, [public(1), own].into());
    assert_eq!(second.firewall.nat.public, [(public(2), Ipv4Addr::new(10, 1, 0, 8))].into());
    let forward = second.firewall.nat.forwards.first().unwrap();
    assert_eq!((forward.port, forward.target_port), (8080, 80));
    assert_eq!(forward.address, Ipv4Addr::new(10, 1, 0, 7));

    let to = second.uplink.as_ref().unwrap().guest_addr;
    let desired = [(vpc_id(0), Arc::new(first)), (vpc_id(1), Arc::new(second))].into();
    let edge = host_edge(&world, &desired, &BTreeSet::new());
    assert_eq!(edge.public, [public(1), public(2), own].into());
    let (protocol, address) = (TransportProtocol::Tcp, None);
    assert_eq!(edge.forwards, [HostForward { protocol, port: 8080, address, to }].into());

    let released = [InstanceId::from_random([4; 9])].into();
    let first = network_of(&world, 0, &released).unwrap();
    assert_eq!(first.firewall.nat.public.keys().collect::<Vec<_>>(), [&own], "it is going");
}
