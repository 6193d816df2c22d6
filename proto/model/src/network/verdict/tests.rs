use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::{FirewallGroup, FirewallInterface, MacAddr};

fn group(n: u8) -> GroupId {
    GroupId::from_random([n; 9])
}

fn rule_id(n: u8) -> RuleId {
    RuleId::from_random([n; 9])
}

fn rule(direction: Direction, protocol: IpProtocol, ports: RulePorts, peer: RulePeer) -> RuleSpec {
    RuleSpec { group_id: group(1), direction, protocol, ports, peer, description: String::new() }
}

fn firewall() -> Firewall {
    use Direction::Ingress;
    let ssh = RulePorts::Range { from: 22, to: 22 };
    let cidr = |text: &str| RulePeer::Cidr(text.parse().unwrap());
    let ping = |kind| RulePorts::Icmp { kind, code: None };
    let rules = [
        rule(Ingress, IpProtocol::Tcp, ssh, cidr("192.0.2.0/24")),
        rule(Ingress, IpProtocol::All, RulePorts::Any, RulePeer::Group(group(2))),
        rule(Ingress, IpProtocol::Icmp, ping(8), cidr("0.0.0.0/0")),
        rule(Ingress, IpProtocol::Icmpv6, ping(128), cidr("::/0")),
        rule(Ingress, IpProtocol::Tcp, ssh, cidr("2001:db8::/32")),
    ];
    let rules = (0u8..).zip(rules).map(|(n, r)| (rule_id(n), r)).collect();
    let address = Ipv4Addr::new(10, 0, 0, 5);
    let web = FirewallGroup { members: Arc::new([address].into()), rules, ..Default::default() };
    let friends = FirewallGroup {
        members: Arc::new([Ipv4Addr::new(10, 0, 0, 9)].into()),
        rules: BTreeMap::new(),
        allow_all_egress: true,
        ..Default::default()
    };
    let interface = FirewallInterface {
        source_dest_check: true,
        network_mbps: None,
        mac: MacAddr::from_random([0; 5]),
        address,
        ipv6: None,
        groups: [group(1)].into(),
    };
    Firewall {
        groups: [(group(1), web), (group(2), friends)].into(),
        interfaces: Arc::new([("t0".parse().unwrap(), interface)].into()),
        ..Firewall::default()
    }
}

fn opening(direction: Direction, service: Service, peer: &str) -> Opening {
    let (own, peer) = (IpAddr::from([10, 0, 0, 5]), peer.parse().unwrap());
    match direction {
        Direction::Ingress => Opening { service, source: peer, destination: own },
        Direction::Egress => Opening { service, source: own, destination: peer },
    }
}

#[test]
fn admits_what_some_rule_of_some_group_allows() {
    use Direction::{Egress, Ingress};
    use Service::{Icmp, Icmpv6, Other, Tcp, Udp};
    #[rustfmt::skip]
    let cases = [
        ("ssh from the office",       Ingress, "t0", Tcp(22),                       "192.0.2.7",    true),
        ("ssh from elsewhere",        Ingress, "t0", Tcp(22),                       "198.51.100.7", false),
        ("another port",              Ingress, "t0", Tcp(23),                       "192.0.2.7",    false),
        ("another protocol",          Ingress, "t0", Udp(22),                       "192.0.2.7",    false),
        ("anything from a member",    Ingress, "t0", Udp(9),                        "10.0.0.9",     true),
        ("its own protocol",          Ingress, "t0", Other(47),                     "10.0.0.9",     true),
        ("not from a non-member",     Ingress, "t0", Udp(9),                        "10.0.0.8",     false),
        ("echo request from anyone",  Ingress, "t0", Icmp { kind: 8, code: 0 },     "203.0.113.1",  true),
        ("no other ICMP",             Ingress, "t0", Icmp { kind: 13, code: 0 },    "203.0.113.1",  false),
        ("IPv6's echo",               Ingress, "t0", Icmpv6 { kind: 128, code: 0 }, "2001:db8::1",  true),
        ("not IPv4's in IPv6",        Ingress, "t0", Icmp { kind: 8, code: 0 },     "2001:db8::1",  false),
        ("ssh over IPv6",             Ingress, "t0", Tcp(22),                       "2001:db8::1",  true),
        ("IPv6 from elsewhere",       Ingress, "t0", Tcp(22),                       "2001:db9::1",  false),
        ("out without a rule",        Egress,  "t0", Tcp(443),                      "203.0.113.1",  false),
        ("an interface not known",    Ingress, "t9", Tcp(22),                       "192.0.2.7",    false),
    ];
    let mut firewall = firewall();
    for (name, direction, link, service, peer, want) in cases {
        let opening = opening(direction, service, peer);
        assert_eq!(firewall.admits(direction, &link.parse().unwrap(), &opening), want, "{name}");
    }
    firewall.groups.get_mut(&group(1)).unwrap().allow_all_egress = true;
    let out = opening(Egress, Tcp(443), "203.0.113.1");
    assert!(firewall.admits(Egress, &"t0".parse().unwrap(), &out));
}

#[test]
fn it_is_said_what_admits() {
    let mut firewall = firewall();
    let groups = BTreeSet::from([group(1), group(2)]);
    let by = |firewall: &Firewall, direction, service, peer| {
        firewall.admission(direction, &groups, &opening(direction, service, peer))
    };
    let ssh = by(&firewall, Direction::Ingress, Service::Tcp(22), "192.0.2.7");
    assert_eq!(ssh, Some(Admission::Rule(rule_id(0))));
    let member = by(&firewall, Direction::Ingress, Service::Tcp(22), "10.0.0.9");
    assert_eq!(member, Some(Admission::Rule(rule_id(1))));
    let out = by(&firewall, Direction::Egress, Service::Udp(53), "192.0.2.53");
    assert_eq!(out, Some(Admission::AllEgress(group(2))));
    firewall.groups.get_mut(&group(2)).unwrap().allow_all_egress = false;
    assert_eq!(by(&firewall, Direction::Egress, Service::Udp(53), "192.0.2.53"), None);
}
