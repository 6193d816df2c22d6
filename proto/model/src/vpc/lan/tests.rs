use super::*;

fn order(mode: VpcMode, bridge: &str, uplink: &str, vlan_id: Option<u16>) -> VpcOrder {
    let link = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    VpcOrder {
        name: "lab".to_owned(),
        cidr_block: "192.168.1.0/24".parse().unwrap(),
        ipv6_cidr_block: None,
        mode,
        bridge_name: link(bridge),
        uplink: link(uplink),
        vlan_id,
    }
}

#[test]
fn a_bridge_vpc_joins_one_lan_or_none() {
    use VpcMode::{Bridge, Routed};
    #[rustfmt::skip]
    let cases = [
        (Bridge, "",    "",     None,       "ok"),
        (Bridge, "br0", "",     None,       "ok"),
        (Bridge, "",    "eth1", None,       "ok"),
        (Bridge, "br0", "",     Some(1),    "ok"),
        (Bridge, "",    "eth1", Some(4094), "ok"),
        (Bridge, "br0", "eth1", None,       "uplink: a VPC joins one LAN, and not br0 and eth1"),
        (Bridge, "",    "eth1", Some(0),    "vlan_id: 0 is not the number of a VLAN"),
        (Bridge, "",    "eth1", Some(4095), "vlan_id: 4095 is not the number of a VLAN"),
        (Bridge, "",    "",     Some(7),    "vlan_id: there is no link whose VLAN"),
        (Routed, "br0", "",     None,       "bridge_name: a routed VPC is not joined"),
        (Routed, "",    "eth1", None,       "uplink: a routed VPC is not joined"),
        (Routed, "",    "",     Some(7),    "vlan_id: a routed VPC is not joined"),
    ];
    for (mode, bridge, uplink, vlan_id, want) in cases {
        let got = match order(mode, bridge, uplink, vlan_id).check() {
            Ok(()) => "ok".to_owned(),
            Err(problem) => format!("{}: {}", problem.field.unwrap(), problem.message),
        };
        assert!(got.starts_with(want), "{mode} {bridge} {uplink} {vlan_id:?}: {got}");
    }
}

#[test]
fn a_link_is_given_once_as_a_whole_or_vlan_by_vlan() {
    let lan = |bridge, uplink, vlan| order(VpcMode::Bridge, bridge, uplink, vlan).lan().unwrap();
    let whole = lan("", "eth1", None);
    let (twenty, thirty) = (lan("", "eth1", Some(20)), lan("", "eth1", Some(30)));
    let bridge = lan("br0", "", None);
    #[rustfmt::skip]
    let cases = [
        (&whole,  &whole,                 true),
        (&whole,  &twenty,                true),
        (&twenty, &whole,                 true),
        (&twenty, &twenty,                true),
        (&twenty, &thirty,                false),
        (&whole,  &lan("", "eth2", None), false),
        (&bridge, &bridge,                false),
    ];
    for (one, other, want) in cases {
        assert_eq!(one.takes_from(other), want, "{one} and {other}");
    }
    assert_eq!(twenty.to_string(), "VLAN 20 of eth1");
}
