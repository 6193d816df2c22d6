use super::*;
use crate::{Problem, SubnetId};

fn vpc(cidr: &str, mode: VpcMode) -> VpcSpec {
    VpcSpec {
        name: "lab".to_owned(),
        cidr_block: cidr.parse().unwrap(),
        ipv6_cidr_block: None,
        mode,
        bridge_name: None,
        uplink: None,
        vlan_id: None,
        default_group_id: GroupId::from_random([1; 9]),
        is_default: false,
        uplink_index: 7,
    }
}

fn order(cidr: &str, gateway: Option<&str>) -> SubnetOrder {
    SubnetOrder {
        name: "a".to_owned(),
        vpc_id: VpcId::from_random([1; 9]),
        cidr_block: cidr.parse().unwrap(),
        ipv6_cidr_block: None,
        gateway: gateway.map(|text| text.parse().unwrap()),
        dns_servers: Vec::new(),
        map_public_ip: false,
    }
}

fn place(vpc: &VpcSpec, order: SubnetOrder, others: &[SubnetSpec]) -> Result<SubnetSpec, Problem> {
    let id = SubnetId::from_random([9; 9]);
    order.place(vpc, others.iter().map(|other| (&id, other)))
}

fn said(refused: Result<SubnetSpec, Problem>) -> String {
    match refused {
        Ok(subnet) => format!("{} {}", subnet.cidr_block, subnet.gateway),
        Err(problem) => {
            assert!(problem.remedy.is_some(), "{problem:?}");
            format!("{}: {problem}", problem.field.as_deref().unwrap_or_default())
        }
    }
}

#[test]
fn a_subnet_is_a_part_of_its_vpc_that_no_other_has() {
    let vpc = vpc("10.0.0.0/16", VpcMode::Routed);
    let other = place(&vpc, order("10.0.1.0/24", None), &[]).unwrap();
    #[rustfmt::skip]
    let cases = [
        ("10.0.0.0/24",  None,             "10.0.0.0/24 10.0.0.1"),
        ("10.0.0.0/24",  Some("10.0.0.3"), "10.0.0.0/24 10.0.0.3"),
        ("10.0.0.0/24",  Some("10.0.0.4"), "gateway_ip: 10.0.0.4 is not reserved for the router"),
        ("10.0.0.0/24",  Some("10.0.0.0"), "gateway_ip: 10.0.0.0 is not reserved for the router"),
        ("10.0.0.0/29",  None,             "cidr_block: 10.0.0.0/29 has a prefix length of 29"),
        ("10.0.0.0/15",  None,             "cidr_block: 10.0.0.0/15 has a prefix length of 15"),
        ("10.1.0.0/24",  None,             "cidr_block: 10.1.0.0/24 is not in the range 10.0.0.0/16"),
        ("10.0.1.16/28", None,             "cidr_block: 10.0.1.16/28 overlaps 10.0.1.0/24 of subnet"),
        ("10.0.0.0/16",  None,             "cidr_block: 10.0.0.0/16 overlaps 10.0.1.0/24 of subnet"),
    ];
    for (cidr, gateway, want) in cases {
        let got = said(place(&vpc, order(cidr, gateway), std::slice::from_ref(&other)));
        assert!(got.starts_with(want), "{cidr} {gateway:?}: {got}");
    }
}

#[test]
fn on_a_bridge_the_router_is_the_lans_and_the_agent_has_an_address_of_its_own() {
    let vpc = vpc("192.168.1.0/24", VpcMode::Bridge);
    #[rustfmt::skip]
    let cases = [
        // The subnet, its router, and where the agent is.
        ("192.168.1.0/24",   None,                  "192.168.1.1",   "192.168.1.2"),
        ("192.168.1.0/24",   Some("192.168.1.254"), "192.168.1.254", "192.168.1.1"),
        ("192.168.1.128/26", None,                  "192.168.1.1",   "192.168.1.129"),
        ("192.168.1.128/26", Some("192.168.1.129"), "192.168.1.129", "192.168.1.130"),
    ];
    for (cidr, gateway, router, service) in cases {
        let subnet = place(&vpc, order(cidr, gateway), &[]).unwrap();
        assert_eq!(subnet.gateway.to_string(), router, "{cidr} {gateway:?}");
        assert_eq!(subnet.service_address(vpc.mode).to_string(), service, "{cidr} {gateway:?}");
        assert_eq!(GuestNetwork::new(&vpc, &subnet).prefix_len, 24, "the whole LAN is on the link");
    }
    for gateway in ["192.168.2.1", "192.168.1.0", "192.168.1.255"] {
        let got = said(place(&vpc, order("192.168.1.0/24", Some(gateway)), &[]));
        assert!(got.starts_with(&format!("gateway_ip: {gateway} is no address")), "{got}");
    }
}

#[test]
fn on_a_bridge_no_router_has_the_agents_address() {
    let vpc = vpc("192.168.1.0/24", VpcMode::Bridge);
    let first = place(&vpc, order("192.168.1.0/25", None), &[]).unwrap();
    let beside = |gateway| {
        let first = std::slice::from_ref(&first);
        said(place(&vpc, order("192.168.1.128/25", Some(gateway)), first))
    };
    assert_eq!(beside("192.168.1.1"), "192.168.1.128/25 192.168.1.1");
    assert!(beside("192.168.1.2").starts_with("gateway_ip: 192.168.1.2 would be a router"));
    let inside = place(&vpc, order("192.168.1.0/25", Some("192.168.1.129")), &[]).unwrap();
    let got = said(place(&vpc, order("192.168.1.128/25", Some("192.168.1.254")), &[inside]));
    assert!(got.starts_with("gateway_ip: 192.168.1.129 would be a router"), "{got}");
}

#[test]
fn a_vpc_has_a_range_of_its_own_and_a_bridge_only_as_a_bridge() {
    let check = |cidr: &str, mode, bridge: Option<&str>| {
        let order = VpcOrder {
            name: "lab".to_owned(),
            cidr_block: cidr.parse().unwrap(),
            ipv6_cidr_block: None,
            mode,
            bridge_name: bridge.map(|text| text.parse().unwrap()),
            uplink: None,
            vlan_id: None,
        };
        order.check().map_or_else(|problem| format!("{problem}"), |()| "ok".to_owned())
    };
    #[rustfmt::skip]
    let cases = [
        ("10.0.0.0/16",    VpcMode::Routed, None,        "ok"),
        ("10.0.0.0/28",    VpcMode::Bridge, Some("br0"), "ok"),
        ("10.0.0.0/28",    VpcMode::Bridge, None,        "ok"),
        ("10.0.0.0/16",    VpcMode::Routed, Some("br0"), "a routed VPC is not joined"),
        ("10.0.0.0/8",     VpcMode::Routed, None,        "10.0.0.0/8 has a prefix length of 8"),
        ("10.0.0.0/29",    VpcMode::Bridge, None,        "10.0.0.0/29 has a prefix length of 29"),
        ("127.8.0.0/16",   VpcMode::Routed, None,        "127.8.0.0/16 overlaps 127.0.0.0/8"),
        ("169.254.0.0/24", VpcMode::Bridge, None,        "169.254.0.0/24 overlaps 169.254.0.0/16"),
        ("224.0.0.0/24",   VpcMode::Routed, None,        "224.0.0.0/24 overlaps 224.0.0.0/4"),
    ];
    for (cidr, mode, bridge, want) in cases {
        let got = check(cidr, mode, bridge);
        assert!(got.starts_with(want), "{cidr} {mode} {bridge:?}: {got}");
    }
}

#[test]
fn a_vpc_stored_before_there_were_modes_is_routed() {
    let stored = serde_json::json!({
        "name": "default",
        "cidr_block": "172.31.0.0/16",
        "default_group_id": GroupId::from_random([1; 9]),
        "is_default": true,
        "uplink_index": 0,
    });
    let spec: VpcSpec = serde_json::from_value(stored).unwrap();
    assert_eq!((spec.mode, spec.bridge_name), (VpcMode::Routed, None));
}

fn dual() -> VpcSpec {
    let range = Some("fd12:3456:789a:100::/56".parse().unwrap());
    VpcSpec { ipv6_cidr_block: range, ..vpc("10.0.0.0/16", VpcMode::Routed) }
}

#[test]
fn an_ipv6_subnet_is_a_64_of_its_vpc_that_no_other_has() {
    let with = |cidr: &str, range: &str| SubnetOrder {
        ipv6_cidr_block: Some(range.parse().unwrap()),
        ..order(cidr, None)
    };
    let other = place(&dual(), with("10.0.1.0/24", "fd12:3456:789a:101::/64"), &[]).unwrap();
    #[rustfmt::skip]
    let cases = [
        ("fd12:3456:789a:100::/64", "10.0.0.0/24"),
        ("fd12:3456:789a:1ff::/64", "10.0.0.0/24"),
        ("fd12:3456:789a:101::/64", "ipv6_cidr_block: fd12:3456:789a:101::/64 is the IPv6 range of"),
        ("fd12:3456:789a:200::/64", "ipv6_cidr_block: fd12:3456:789a:200::/64 is not in the VPC's"),
        ("fd12:3456:789a:100::/60", "ipv6_cidr_block: fd12:3456:789a:100::/60 has a prefix length"),
        ("fd12:3456:789a:100::/65", "ipv6_cidr_block: fd12:3456:789a:100::/65 has a prefix length"),
    ];
    for (range, want) in cases {
        let placed = place(&dual(), with("10.0.0.0/24", range), std::slice::from_ref(&other));
        let got = said(placed);
        assert!(got.starts_with(want), "{range}: {got}");
    }
    let plain = vpc("10.0.0.0/16", VpcMode::Routed);
    let got = said(place(&plain, with("10.0.0.0/24", "fd12:3456:789a:100::/64"), &[]));
    assert!(got.starts_with("ipv6_cidr_block: the VPC lab has no IPv6 range"), "{got}");
}

#[test]
fn a_vpc_has_an_ipv6_range_that_is_a_networks() {
    let check = |range: &str, mode| {
        let order = VpcOrder {
            name: "lab".to_owned(),
            cidr_block: "10.0.0.0/16".parse().unwrap(),
            ipv6_cidr_block: Some(range.parse().unwrap()),
            mode,
            bridge_name: None,
            uplink: None,
            vlan_id: None,
        };
        order.check().map_or_else(|problem| format!("{problem}"), |()| "ok".to_owned())
    };
    #[rustfmt::skip]
    let cases = [
        ("fd12:3456:789a::/48", VpcMode::Routed, "ok"),
        ("2a01:4f8:1:2::/64",   VpcMode::Routed, "ok"),
        ("fd12:3456:780::/44",  VpcMode::Routed, "ok"),
        ("fd12::/43",           VpcMode::Routed, "fd12::/43 has a prefix length of 43"),
        ("fd12::/65",           VpcMode::Routed, "fd12::/65 has a prefix length of 65"),
        ("fe80::/64",           VpcMode::Routed, "fe80::/64 overlaps fe80::/9, which is link-local"),
        ("ff02::/48",           VpcMode::Routed, "ff02::/48 overlaps ff00::/8, which is multicast"),
        ("::/64",               VpcMode::Routed, "::/64 overlaps ::/8"),
        ("fd00:ec2::/56",       VpcMode::Routed, "fd00:ec2::/56 overlaps fd00:ec2::/32"),
        ("fdb4:6e0a:5c27:1::/64", VpcMode::Routed, "fdb4:6e0a:5c27:1::/64 overlaps fdb4:6e0a:5c27::/48, which is where VPCs are connected"),
        ("fd12:3456:789a::/48", VpcMode::Bridge, "ok"),
    ];
    for (range, mode, want) in cases {
        let got = check(range, mode);
        assert!(got.starts_with(want), "{range} {mode}: {got}");
    }
    for (text, want) in [("fd00::1/64", "has bits set"), ("10.0.0.0/8", "is not an IPv6 range")] {
        let problem = parse_cidr_v6("ipv6_cidr_block", text).unwrap_err();
        assert!(problem.message.contains(want), "{problem:?}");
    }
}
