//! What this crate's tests share: firewalls built from a few letters, and a namespace to try in.
#![expect(clippy::unwrap_used, reason = "tests may panic")]
#![allow(dead_code, clippy::allow_attributes, reason = "no test file needs all of it")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use weft_model::{
    AddressFamily, Direction, Firewall, FirewallBridge, FirewallForward, FirewallGroup,
    FirewallInterface, FirewallNat, FirewallPrefixList, FirewallUplink, GroupId, IpProtocol,
    LinkName, MacAddr, PrefixListId, RuleId, RulePeer, RulePorts, RuleSpec, TransportProtocol,
};

pub(crate) const TABLE: &str = "weft_test";

pub(crate) fn group_id(n: u8) -> GroupId {
    GroupId::from_random([n; 9])
}

pub(crate) fn rule(n: u8) -> (RuleId, RuleSpec) {
    use Direction::{Egress, Ingress};
    let range = |from, to| RulePorts::Range { from, to };
    let cidr = |text: &str| RulePeer::Cidr(text.parse().unwrap());
    let icmp = |kind, code| RulePorts::Icmp { kind, code };
    // Every shape of rule, and two that overlap.
    let (direction, protocol, ports, peer) = match n % 16 {
        0 => (Ingress, IpProtocol::All, RulePorts::Any, cidr("0.0.0.0/0")),
        1 => (Ingress, IpProtocol::Tcp, range(22, 22), cidr("192.0.2.0/24")),
        2 => (Ingress, IpProtocol::Tcp, range(20, 30), cidr("192.0.2.128/25")),
        3 => (Ingress, IpProtocol::Udp, range(0, 65535), cidr("192.0.2.7/32")),
        4 => (Ingress, IpProtocol::Icmp, icmp(8, None), cidr("10.0.0.0/8")),
        5 => (Ingress, IpProtocol::Icmp, icmp(3, Some(4)), RulePeer::Group(group_id(1))),
        6 => (Ingress, IpProtocol::Tcp, range(80, 81), RulePeer::Group(group_id(2))),
        7 => (Egress, IpProtocol::Tcp, range(443, 443), cidr("0.0.0.0/0")),
        8 => (Egress, IpProtocol::Other(47), RulePorts::Any, cidr("198.51.100.0/24")),
        9 => (Egress, IpProtocol::Icmpv6, RulePorts::Any, cidr("0.0.0.0/0")),
        10 => (Egress, IpProtocol::Icmp, RulePorts::Any, RulePeer::Group(group_id(99))),
        11 => (Ingress, IpProtocol::Other(0), RulePorts::Any, cidr("10.1.2.3/8")),
        12 => (Ingress, IpProtocol::Tcp, range(22, 22), cidr("::/0")),
        14 => (Ingress, IpProtocol::Udp, range(53, 53), RulePeer::PrefixList(list_id(7))),
        13 => (Egress, IpProtocol::Icmpv6, icmp(128, Some(0)), cidr("fd00::/8")),
        _ => (Ingress, IpProtocol::All, RulePorts::Any, RulePeer::Group(group_id(0))),
    };
    let group_id = group_id(0);
    let description = String::new();
    let spec = RuleSpec { group_id, direction, protocol, ports, peer, description };
    (RuleId::from_random([n; 9]), spec)
}

pub(crate) fn group(members: &[u8], rules: &[u8], allow_all_egress: bool) -> FirewallGroup {
    FirewallGroup {
        members: Arc::new(members.iter().map(|n| Ipv4Addr::new(10, 0, 0, *n)).collect()),
        rules: rules.iter().map(|n| rule(*n)).collect(),
        allow_all_egress,
        ..FirewallGroup::default()
    }
}

pub(crate) fn interface(n: u8, groups: &[u8]) -> (LinkName, FirewallInterface) {
    let interface = FirewallInterface {
        source_dest_check: true,
        network_mbps: None,
        mac: MacAddr::from_random([n; 5]),
        address: Ipv4Addr::new(10, 0, 0, n),
        ipv6: None,
        groups: groups.iter().map(|n| group_id(*n)).collect(),
    };
    (format!("wt-{n}.x").parse().unwrap(), interface)
}

pub(crate) fn uplink(masquerade: bool) -> FirewallUplink {
    let vpc_cidr = "10.0.0.0/16".parse().unwrap();
    FirewallUplink { link: "wuplink".parse().unwrap(), vpc_cidr, masquerade }
}

pub(crate) fn bridge(outside: Option<&str>) -> FirewallBridge {
    FirewallBridge {
        link: "wbridge".parse().unwrap(),
        mac: MacAddr::from_random([9; 5]),
        addresses: [Ipv4Addr::new(10, 0, 0, 250)].into(),
        outside: outside.map(|name| name.parse().unwrap()),
    }
}

pub(crate) fn list_id(n: u8) -> PrefixListId {
    PrefixListId::from_random([n; 9])
}

/// Lists of ranges 10.9.0.FIRST to 10.9.0.LAST.
pub(crate) fn prefix_lists(
    lists: &[(u8, &[(u8, u8)])],
) -> BTreeMap<PrefixListId, FirewallPrefixList> {
    let address = |n: u8| std::net::IpAddr::from([10, 9, 0, n]);
    let list = |ranges: &[(u8, u8)]| FirewallPrefixList {
        family: AddressFamily::Ipv4,
        ranges: ranges.iter().map(|(first, last)| (address(*first), address(*last))).collect(),
    };
    lists.iter().map(|(n, ranges)| (list_id(*n), list(ranges))).collect()
}

pub(crate) fn firewall(
    groups: &[(u8, FirewallGroup)],
    interfaces: &[(LinkName, FirewallInterface)],
    uplink: Option<FirewallUplink>,
) -> Firewall {
    Firewall {
        groups: groups.iter().map(|(n, group)| (group_id(*n), group.clone())).collect(),
        interfaces: Arc::new(interfaces.iter().cloned().collect()),
        uplink,
        prefix_lists: prefix_lists(&[(7, &[(0, 63)])]),
        bridge: None,
        gateways: [Ipv4Addr::new(10, 0, 0, 1)].into(),
        range: Some("10.0.0.0/16".parse().unwrap()),
        ipv6: None,
        nat: FirewallNat::default(),
    }
}

/// Public addresses of 10.0.0.`n`, and ports that lead to 10.0.0.1.
pub(crate) fn nat(public: &[u8], ports: &[u16]) -> FirewallNat {
    let pair = |n: &u8| (Ipv4Addr::new(198, 18, 0, *n), Ipv4Addr::new(10, 0, 0, *n));
    let forward = |port: &u16| FirewallForward {
        protocol: TransportProtocol::Tcp,
        port: *port,
        address: Ipv4Addr::new(10, 0, 0, 1),
        target_port: port + 1000,
    };
    FirewallNat {
        public: public.iter().map(pair).collect(),
        forwards: ports.iter().map(forward).collect(),
    }
}

/// The same with limits of its interfaces: none, or so many Mbit/s for the one with this number.
pub(crate) fn limited(mut firewall: Firewall, limits: &[(u8, u32)]) -> Firewall {
    let interfaces = std::sync::Arc::make_mut(&mut firewall.interfaces);
    for interface in interfaces.values_mut() {
        let limit = limits.iter().find(|(n, _)| interface.address.octets()[3] == *n);
        interface.network_mbps = limit.map(|(_, mbps)| *mbps);
    }
    firewall
}
