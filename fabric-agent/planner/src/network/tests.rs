use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;
use weft_model::{
    Bridge, BridgeJoin, Firewall, FirewallInterface, JoinPath, LinkName, MacAddr, NextHop,
    ObservedShaper, ObservedTap, Routes, TapInterface, Uplink, UplinkV6, VpcId, VpcNetwork,
};

use super::*;
use crate::simulate_network;

fn vpc() -> VpcId {
    VpcId::from_random([7; 9])
}

/// What is beyond a VPC, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    None,
    Uplink,
    Bridge,
    Joined,
}

/// A network with a tap for each letter, whose address ends in the number.
fn desired(taps: &[(&str, u8)], way: Way) -> VpcNetwork {
    let join = BridgeJoin {
        guest_link: "lan".parse().unwrap(),
        path: JoinPath::Bridge {
            host_bridge: "office".parse().unwrap(),
            host_link: "weftb0".parse().unwrap(),
            vlan: None,
        },
    };
    let bridge = matches!(way, Way::Bridge | Way::Joined).then(|| Bridge {
        link: "bridge".parse().unwrap(),
        joined: (way == Way::Joined).then_some(join),
    });
    let uplink = (way == Way::Uplink).then(|| Uplink {
        public: BTreeSet::new(),
        link: "weftu0".parse().unwrap(),
        guest_link: "uplink".parse().unwrap(),
        host_addr: Ipv4Addr::new(169, 254, 128, 1),
        guest_addr: Ipv4Addr::new(169, 254, 128, 2),
        nat: true,
        routed: true,
        ipv6: None,
    });
    let gateway = Ipv4Addr::new(10, 0, 0, 1);
    let mut interfaces = BTreeMap::new();
    let mut firewall = Firewall::default();
    firewall.bridge = bridge.as_ref().map(|b| b.firewall(&vpc(), &BTreeSet::from([gateway])));
    for (name, last) in taps {
        let link: LinkName = name.parse().unwrap();
        let (mac, address) =
            (MacAddr::from_random([0, 0, 0, 0, *last]), Ipv4Addr::new(10, 0, 0, *last));
        let tap = TapInterface {
            mac,
            address,
            ipv6: None,
            gateway,
            owner_uid: Some(5),
            network_mbps: None,
            source_dest_check: true,
        };
        interfaces.insert(link.clone(), tap);
        let filtered = FirewallInterface {
            mac,
            address,
            ipv6: None,
            groups: [].into(),
            source_dest_check: true,
            network_mbps: None,
        };
        Arc::make_mut(&mut firewall.interfaces).insert(link, filtered);
    }
    VpcNetwork {
        vpc_id: vpc(),
        cidr: "10.0.0.0/16".parse().unwrap(),
        ipv6: None,
        gateways: BTreeSet::from([gateway]),
        bridge,
        uplink,
        interfaces: Arc::new(interfaces),
        routes: Default::default(),
        firewall,
    }
}

/// Plans, carries the plan out on `seen`, and checks that one pass converges.
fn pass(desired: Option<&VpcNetwork>, seen: &mut SeenNetwork) -> Vec<String> {
    let actions = plan_network(&vpc(), desired, seen);
    actions.iter().for_each(|action| simulate_network(seen, action));
    assert_eq!(plan_network(&vpc(), desired, seen), [], "one pass must converge");
    actions.iter().map(show).collect()
}

fn show(action: &Action) -> String {
    match action {
        Action::MakeNamespace { .. } => "ns".to_owned(),
        Action::RemoveNamespace { .. } => "-ns".to_owned(),
        Action::SetBase { .. } => "base".to_owned(),
        Action::SetUplink { .. } => "uplink".to_owned(),
        Action::RemoveUplink { .. } => "-uplink".to_owned(),
        Action::SetBridge { .. } => "bridge".to_owned(),
        Action::JoinBridge { .. } => "join".to_owned(),
        Action::AddTap { link, .. } => format!("+{link}"),
        Action::OpenTap { link, .. } => format!("open {link}"),
        Action::RemoveTap { link, .. } => format!("-{link}"),
        Action::SetFirewall { .. } => "fw".to_owned(),
        Action::SetRoutes { .. } => "routes".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn plans_are_minimal_and_ordered() {
    type Taps = &'static [(&'static str, u8)];
    #[rustfmt::skip]
    let cases: &[(&str, Option<Taps>, Option<Taps>, &str)] = &[
        // name,                       before,                   after,                    actions
        ("from nothing",               None,                     Some(&[("a", 5)]),        "ns base uplink +a fw open a"),
        ("nothing to do",              Some(&[("a", 5)]),        Some(&[("a", 5)]),        ""),
        ("one more",                   Some(&[("a", 5)]),        Some(&[("a", 5), ("b", 6)]), "+b fw open b"),
        ("one less",                   Some(&[("a", 5), ("b", 6)]), Some(&[("a", 5)]),     "-b fw"),
        ("an address moves to a new tap", Some(&[("a", 5)]),     Some(&[("b", 5)]),        "-a +b fw open b"),
        ("all of it goes",             Some(&[("a", 5)]),        None,                     "-uplink -ns"),
        ("nothing stays nothing",      None,                     None,                     ""),
    ];
    for (name, before, after, want) in cases {
        let mut seen = SeenNetwork::default();
        if let Some(taps) = before {
            pass(Some(&desired(taps, Way::Uplink)), &mut seen);
        }
        let after = after.map(|taps| desired(taps, Way::Uplink));
        assert_eq!(pass(after.as_ref(), &mut seen).join(" "), *want, "{name}");
    }
}

#[test]
fn a_tap_is_opened_only_after_the_packet_filter_knows_it() {
    let mut seen = SeenNetwork::default();
    let actions = pass(Some(&desired(&[("a", 5), ("b", 6)], Way::Uplink)), &mut seen);
    let position = |what: &str| actions.iter().position(|action| action == what).unwrap();
    assert!(position("fw") < position("open a") && position("fw") < position("open b"));
    assert!(position("+a") < position("fw"));
}

#[test]
fn a_limit_changes_where_the_tap_is() {
    let limited = |mbps: Option<u32>| {
        let mut network = desired(&[("a", 5), ("b", 6)], Way::Uplink);
        let link: LinkName = "a".parse().unwrap();
        Arc::make_mut(&mut network.interfaces).get_mut(&link).unwrap().network_mbps = mbps;
        let filtered = Arc::make_mut(&mut network.firewall.interfaces);
        filtered.get_mut(&link).unwrap().network_mbps = mbps;
        network
    };
    let mut seen = SeenNetwork::default();
    pass(Some(&limited(None)), &mut seen);
    #[rustfmt::skip]
    let cases = [
        (Some(10), "fw open a"),
        (Some(10), ""),
        (Some(20), "fw open a"),
        (None,     "fw open a"),
    ];
    for (mbps, want) in cases {
        assert_eq!(pass(Some(&limited(mbps)), &mut seen).join(" "), want, "{mbps:?}");
    }
    // Somebody took it away: that is the tap's alone.
    pass(Some(&limited(Some(10))), &mut seen);
    tap(&mut seen, "a").shaper = ObservedShaper::None;
    assert_eq!(pass(Some(&limited(Some(10))), &mut seen), ["open a"]);
}

#[test]
fn a_ruleset_that_was_tampered_with_is_replaced() {
    let mut seen = SeenNetwork::default();
    let desired = desired(&[("a", 5)], Way::Uplink);
    pass(Some(&desired), &mut seen);
    seen.firewall = None;
    assert_eq!(pass(Some(&desired), &mut seen), ["fw"]);
}

#[test]
fn a_bridge_is_joined_and_has_ports_only_after_the_packet_filter_knows_them() {
    let mut seen = SeenNetwork::default();
    let wanted = desired(&[("a", 5)], Way::Joined);
    assert_eq!(pass(Some(&wanted), &mut seen).join(" "), "ns base bridge +a fw join open a");
    assert_eq!(pass(Some(&wanted), &mut seen), [""; 0]);

    // The operator's bridge was made anew: ours is joined to it again, and no guest is disturbed.
    let mut left = seen.clone();
    let bridge = left.network.as_mut().unwrap().bridge.as_mut().unwrap();
    bridge.joined.as_mut().unwrap().host_bridge = None;
    assert_eq!(pass(Some(&wanted), &mut left), ["join"]);
    // Ours is gone, and with it every port.
    let mut lost = seen.clone();
    let network = lost.network.as_mut().unwrap();
    network.bridge = None;
    network.taps.values_mut().for_each(|tap| tap.port = None);
    assert_eq!(pass(Some(&wanted), &mut lost).join(" "), "bridge join open a");

    assert_eq!(pass(None, &mut seen).join(" "), "-uplink -ns");
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn taps() -> impl Strategy<Value = Vec<(&'static str, u8)>> {
    prop::collection::btree_map(0..NAMES.len(), 4u8..250, 0..NAMES.len())
        .prop_map(|map| map.into_iter().map(|(name, last)| (NAMES[name], last)).collect())
}

fn ways() -> impl Strategy<Value = Way> {
    prop::sample::select(vec![Way::None, Way::Uplink, Way::Bridge, Way::Joined])
}

proptest! {
    #[test]
    fn one_pass_converges_from_anything_to_anything(
        before in taps(), after in taps(), ways in (ways(), ways()),
        closed in prop::collection::vec(0..NAMES.len(), 0..3),
    ) {
        let mut seen = SeenNetwork::default();
        pass(Some(&desired(&before, ways.0)), &mut seen);
        for index in closed {
            let link: LinkName = NAMES[index].parse().unwrap();
            if let Some(tap) = seen.network.as_mut().and_then(|n| n.taps.get_mut(&link)) {
                tap.up = false;
                tap.routes.clear();
            }
        }
        pass(Some(&desired(&after, ways.1)), &mut seen);
    }
}

/// What is said of a network with two taps and an uplink that `change` has happened to.
fn said_of(change: impl FnOnce(&mut SeenNetwork)) -> Vec<String> {
    let applied = desired(&[("t1", 1), ("t2", 2)], Way::Uplink);
    let mut seen = SeenNetwork::default();
    pass(Some(&applied), &mut seen);
    assert_eq!(drift(&applied, &seen), Vec::<String>::new(), "nothing has happened yet");
    change(&mut seen);
    drift(&applied, &seen)
}

#[test]
fn drift_is_told_in_one_finding_for_each_thing_that_was_changed() {
    type Change = fn(&mut SeenNetwork);
    #[rustfmt::skip]
    let cases: [(Change, &str); 9] = [
        (|seen| seen.network = None, "the network namespace was gone"),
        (|seen| seen.firewall = None, "the packet filter had been changed"),
        (|seen| { taps_of(seen).remove(&"t1".parse().unwrap()); }, "the tap t1 of 10.0.0.1 was gone (its guest has a network again after weft reboot)"),
        (|seen| tap(seen, "t2").owner_uid = None, "the tap t2 of 10.0.0.2 had been changed"),
        (|seen| tap(seen, "t2").routes.clear(), "the tap t2 of 10.0.0.2 was down, or its route"),
        (|seen| tap(seen, "t2").shaper = ObservedShaper::Foreign, "the limit of the tap t2 of 10.0.0.2 had been"),
        (|seen| { taps_of(seen).insert("t9".parse().unwrap(), Default::default()); }, "there was a tap t9"),
        (|seen| seen.network.as_mut().unwrap().routes.main_lost = true, "the route tables, or the rules"),
        (|seen| seen.network.as_mut().unwrap().uplink = None, "the way out, weftu0, was gone"),
    ];
    for (change, want) in cases {
        let said = said_of(change);
        assert_eq!(said.len(), 1, "{want}: {said:?}");
        assert!(said[0].starts_with(want), "{want}: {said:?}");
    }
}

fn taps_of(seen: &mut SeenNetwork) -> &mut BTreeMap<LinkName, weft_model::ObservedTap> {
    &mut seen.network.as_mut().unwrap().taps
}

fn tap<'a>(seen: &'a mut SeenNetwork, name: &str) -> &'a mut weft_model::ObservedTap {
    taps_of(seen).get_mut(&name.parse().unwrap()).unwrap()
}

/// The same with an IPv6 range, and an address of it behind each tap.
fn dual_stack(taps: &[(&str, u8)]) -> VpcNetwork {
    let mut network = desired(taps, Way::Uplink);
    let at = |last: u16| Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0, 0, last);
    network.ipv6 = Some("fd00:1:2::/56".parse().unwrap());
    network.firewall.ipv6 = network.ipv6;
    if let Some(uplink) = &mut network.uplink {
        uplink.ipv6 = Some(UplinkV6 { host_addr: at(1), guest_addr: at(2) });
    }
    for tap in Arc::make_mut(&mut network.interfaces).values_mut() {
        tap.ipv6 = Some(at(tap.address.octets()[3].into()));
    }
    network
}

#[test]
fn what_is_lost_of_ipv6_is_made_again_and_nothing_else() {
    let wanted = dual_stack(&[("a", 4), ("b", 5)]);
    let mut made = SeenNetwork::default();
    pass(Some(&wanted), &mut made);
    type Loss = fn(&mut ObservedNetwork);
    #[rustfmt::skip]
    let cases: [(&str, Loss, &str); 8] = [
        ("nothing",               |_| {},                                                             ""),
        ("forwarding",            |n| n.ipv6.on = None,                                               "base"),
        ("the range's end",       |n| n.ipv6.unreachable.clear(),                                     "base"),
        ("the uplink's address",  |n| n.uplink.as_mut().unwrap().ipv6.host.clear(),                   "uplink"),
        ("the route to the VPC",  |n| n.uplink.as_mut().unwrap().ipv6.routes.clear(),                 "uplink"),
        ("the router on a tap",   |n| seen_tap(n, "a").ipv6.routers.clear(),                               "open a"),
        ("a neighbour",           |n| seen_tap(n, "b").ipv6.neighbours.clear(),                            "open b"),
        ("a tap's switches",      |n| seen_tap(n, "a").ipv6.on = Some(false),                              "+a open a"),
    ];
    for (what, lose, want) in cases {
        let mut seen = made.clone();
        lose(seen.network.as_mut().unwrap());
        assert_eq!(pass(Some(&wanted), &mut seen).join(" "), want, "{what}");
    }
}

fn seen_tap<'a>(network: &'a mut ObservedNetwork, name: &str) -> &'a mut ObservedTap {
    network.taps.get_mut(&name.parse::<LinkName>().unwrap()).unwrap()
}

#[test]
fn routes_are_set_once_the_taps_that_they_lead_to_are_open() {
    let by_way_of = |link: &str| {
        let hop = NextHop { link: link.parse().unwrap(), address: Ipv4Addr::new(10, 0, 0, 5) };
        Routes {
            tables: [(Routes::FIRST_TABLE, [("0.0.0.0/0".parse().unwrap(), Some(hop))].into())]
                .into(),
            links: [("b".parse().unwrap(), Routes::FIRST_TABLE)].into(),
            main_first: true,
            main_lost: false,
        }
    };
    let with_routes = |taps, routes| VpcNetwork { routes, ..desired(taps, Way::Uplink) };
    let mut seen = SeenNetwork::default();
    let both = with_routes(&[("a", 5), ("b", 6)], by_way_of("a"));
    let steps = pass(Some(&both), &mut seen);
    assert_eq!(steps.last().map(String::as_str), Some("routes"), "{steps:?}");
    assert_eq!(pass(Some(&both), &mut seen), Vec::<String>::new());
    // A tap that goes takes its routes along.
    let mut alone = with_routes(&[("b", 6)], by_way_of("a"));
    alone.routes.lose(&"a".parse().unwrap());
    assert_eq!(pass(Some(&alone), &mut seen), ["-a", "fw"]);
    assert_eq!(pass(Some(&desired(&[("b", 6)], Way::Uplink)), &mut seen), ["routes"]);
}
