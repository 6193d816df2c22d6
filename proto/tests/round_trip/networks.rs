//! VPCs with their subnets and routes, security groups, and the public addresses that lead into them.

use std::net::Ipv4Addr;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use weft_model::{
    AddressFamily, AddressRange, AssociationId, AssociationSpec, Direction, ElasticIpOrder,
    ElasticIpSpec, GroupOrder, GroupSpec, IpProtocol, LinkName, PortForwardSpec, PrefixListSpec,
    PublicPool, RouteSpec, RouteTableAssociationId, RouteTableAssociationSpec, RouteTableSpec,
    RulePeer, RulePorts, RuleSpec, SubnetOrder, SubnetSpec, Target, TransportProtocol, VpcMode,
    VpcOrder, VpcSpec,
};

use super::{
    address, elastic_ip_id, group_id, instance_id, interface_id, name, prefix_list_id, printable,
    range, range_v6, route_table_id, subnet_id, vpc_id, word,
};

pub(crate) fn group_order() -> impl Strategy<Value = GroupOrder> {
    (name(), printable(), option::of(vpc_id()), any::<(bool, bool)>()).prop_map(
        |(name, description, vpc_id, (allow_all_egress, revoke_now))| GroupOrder {
            name: name.to_string(),
            description,
            vpc_id,
            allow_all_egress,
            revoke_now,
        },
    )
}

pub(crate) fn group_spec() -> impl Strategy<Value = GroupSpec> {
    (name(), printable(), vpc_id(), any::<(bool, bool, bool)>()).prop_map(
        |(name, description, vpc_id, (allow_all_egress, revoke_now, is_default))| GroupSpec {
            name: name.to_string(),
            description,
            vpc_id,
            allow_all_egress,
            revoke_now,
            is_default,
        },
    )
}

/// A protocol and the ports that it can have.
fn protocol_and_ports() -> impl Strategy<Value = (IpProtocol, RulePorts)> {
    // Numbers that have a name are written with it.
    let other = any::<u8>()
        .prop_filter("has a name", |number| ![1, 6, 17, 58].contains(number))
        .prop_map(|number| (IpProtocol::Other(number), RulePorts::Any));
    let ports = (any::<u16>(), any::<u16>())
        .prop_map(|(a, b)| RulePorts::Range { from: a.min(b), to: a.max(b) });
    let icmp = prop_oneof![
        Just(RulePorts::Any),
        (any::<u8>(), option::of(any::<u8>()))
            .prop_map(|(kind, code)| RulePorts::Icmp { kind, code }),
    ];
    prop_oneof![
        Just((IpProtocol::All, RulePorts::Any)),
        other,
        (select(vec![IpProtocol::Tcp, IpProtocol::Udp]), ports),
        (select(vec![IpProtocol::Icmp, IpProtocol::Icmpv6]), icmp),
    ]
}

pub(crate) fn rule_spec() -> impl Strategy<Value = RuleSpec> {
    let direction = select(vec![Direction::Ingress, Direction::Egress]);
    let peer = prop_oneof![
        range().prop_map(|range| RulePeer::Cidr(range.into())),
        range_v6().prop_map(|range| RulePeer::Cidr(range.into())),
        group_id().prop_map(RulePeer::Group),
        prefix_list_id().prop_map(RulePeer::PrefixList),
    ];
    let spec = (group_id(), direction, protocol_and_ports(), peer, printable()).prop_map(
        |(group_id, direction, (protocol, ports), peer, description)| RuleSpec {
            group_id,
            direction,
            protocol,
            ports,
            peer,
            description,
        },
    );
    spec.prop_filter("ICMP of the range's family", |spec| {
        spec.peer.check_family(spec.protocol).is_ok()
    })
}

pub(crate) fn prefix_list_spec() -> impl Strategy<Value = PrefixListSpec> {
    let v4 = btree_map(range().prop_map(Into::into), printable(), 0..6)
        .prop_map(|entries| (AddressFamily::Ipv4, entries));
    let v6 = btree_map(range_v6().prop_map(Into::into), printable(), 0..6)
        .prop_map(|entries| (AddressFamily::Ipv6, entries));
    (name(), prop_oneof![v4, v6]).prop_map(|(name, (address_family, entries))| PrefixListSpec {
        name: name.to_string(),
        address_family,
        entries,
    })
}

fn link() -> impl Strategy<Value = LinkName> {
    "[a-z][a-z0-9.-]{0,14}".prop_map(|text| text.parse().unwrap())
}

pub(crate) fn vpc_order() -> impl Strategy<Value = VpcOrder> {
    let ranges = (range(), option::of(range_v6()));
    let lan = (option::of(link()), option::of(link()), option::of(any::<u16>()));
    (name(), ranges, word(VpcMode::WORDS), lan).prop_map(
        |(name, (cidr_block, ipv6_cidr_block), mode, (bridge_name, uplink, vlan_id))| VpcOrder {
            name: name.to_string(),
            cidr_block,
            ipv6_cidr_block,
            mode,
            bridge_name,
            uplink,
            vlan_id,
        },
    )
}

pub(crate) fn vpc_spec() -> impl Strategy<Value = VpcSpec> {
    (vpc_order(), group_id(), any::<bool>()).prop_map(|(order, default_group_id, is_default)| {
        VpcSpec {
            name: order.name,
            cidr_block: order.cidr_block,
            ipv6_cidr_block: order.ipv6_cidr_block,
            mode: order.mode,
            bridge_name: order.bridge_name,
            uplink: order.uplink,
            vlan_id: order.vlan_id,
            default_group_id,
            is_default,
            // Not a client's business: it is not on the wire.
            uplink_index: 0,
        }
    })
}

pub(crate) fn subnet_order() -> impl Strategy<Value = SubnetOrder> {
    let ranges = (range(), option::of(range_v6()));
    (name(), vpc_id(), ranges, option::of(address()), vec(address(), 0..3), any::<bool>()).prop_map(
        |(name, vpc_id, (cidr_block, ipv6_cidr_block), gateway, dns_servers, map_public_ip)| {
            SubnetOrder {
                name: name.to_string(),
                vpc_id,
                cidr_block,
                ipv6_cidr_block,
                gateway,
                dns_servers,
                map_public_ip,
            }
        },
    )
}

pub(crate) fn subnet_spec() -> impl Strategy<Value = SubnetSpec> {
    (subnet_order(), address(), any::<bool>()).prop_map(|(order, gateway, is_default)| SubnetSpec {
        name: order.name,
        vpc_id: order.vpc_id,
        cidr_block: order.cidr_block,
        ipv6_cidr_block: order.ipv6_cidr_block,
        gateway,
        dns_servers: order.dns_servers,
        map_public_ip: order.map_public_ip,
        is_default,
    })
}

fn route() -> impl Strategy<Value = RouteSpec> {
    (range(), option::of(target()))
        .prop_map(|(cidr_block, target)| RouteSpec { cidr_block, target })
}

pub(crate) fn route_table_spec() -> impl Strategy<Value = RouteTableSpec> {
    (name(), vpc_id(), vec(route(), 0..3)).prop_map(|(name, vpc_id, routes)| RouteTableSpec {
        name: name.to_string(),
        vpc_id,
        routes,
        index: 0,
    })
}

pub(crate) fn route_table_association() -> impl Strategy<Value = RouteTableAssociationSpec> {
    (route_table_id(), subnet_id()).prop_map(|(route_table_id, subnet_id)| {
        RouteTableAssociationSpec { route_table_id, subnet_id }
    })
}

pub(crate) fn route_table_association_id() -> impl Strategy<Value = RouteTableAssociationId> {
    route_table_association().prop_map(|spec| spec.id())
}

pub(crate) fn elastic_ip_order() -> impl Strategy<Value = ElasticIpOrder> {
    (option::of(name()), option::of(address()))
        .prop_map(|(name, address)| ElasticIpOrder { name, address })
}

pub(crate) fn elastic_ip_spec() -> impl Strategy<Value = ElasticIpSpec> {
    (option::of(name()), any::<bool>(), address())
        .prop_map(|(name, chosen, public_ip)| ElasticIpSpec { name, chosen, public_ip })
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        instance_id().prop_map(Target::Instance),
        interface_id().prop_map(Target::Interface),
    ]
}

pub(crate) fn association_id() -> impl Strategy<Value = AssociationId> {
    (elastic_ip_id(), target()).prop_map(|(id, target)| AssociationId::new(id, target))
}

pub(crate) fn association_spec() -> impl Strategy<Value = AssociationSpec> {
    (elastic_ip_id(), target())
        .prop_map(|(elastic_ip_id, target)| AssociationSpec { elastic_ip_id, target })
}

pub(crate) fn port_forward_spec() -> impl Strategy<Value = PortForwardSpec> {
    let protocol = word::<TransportProtocol>(TransportProtocol::WORDS);
    let ports = (1..=u16::MAX, 1..=u16::MAX);
    (name(), protocol, option::of(address()), target(), ports).prop_map(
        |(name, protocol, host_address, target, (host_port, target_port))| PortForwardSpec {
            name,
            protocol,
            host_address,
            host_port,
            target,
            target_port,
        },
    )
}

pub(super) fn public_pool() -> impl Strategy<Value = PublicPool> {
    let range = (any::<u32>(), 0..1000_u32, any::<bool>(), 16..=32_u8).prop_filter_map(
        "no pool has it",
        |(first, more, cidr, prefix)| {
            let network = ipnetwork::Ipv4Network::new(Ipv4Addr::from(first), prefix).unwrap();
            let last = Ipv4Addr::from(first.saturating_add(more));
            let text = if cidr {
                format!("{}/{prefix}", network.network())
            } else {
                format!("{}-{last}", Ipv4Addr::from(first))
            };
            // Too large, or a range that no network may use.
            text.parse::<AddressRange>().ok()
        },
    );
    vec(range, 0..3).prop_map(PublicPool::new)
}
