//! A bridge, its ports and what it is joined to: made, seen, mended, removed.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::process::Command;
use std::sync::Arc;

use support::{Machine, Vpc, address, all_in, ip, mac, on_a_machine, tap};
use weft_model::ObservedNetwork;
use weft_network::{
    Namespace, NetworkError, add_tap, ensure_base, ensure_bridge, observe, remove_tap,
    remove_uplink, tap_up, uplinks,
};

async fn seen(vpc: &Vpc) -> ObservedNetwork {
    observe(&vpc.agent, &vpc.namespace).await.unwrap()
}

async fn make(vpc: &Vpc) {
    ensure_base(&vpc.namespace, &vpc.network).await.unwrap();
    ensure_bridge(&vpc.namespace, &vpc.network).await.unwrap();
    vpc.join_bridge().await.unwrap();
    for (link, tap) in vpc.network.interfaces.iter() {
        add_tap(&vpc.namespace, link, tap).await.unwrap();
        tap_up(&vpc.namespace, link, tap, vpc.network.bridge.as_ref()).await.unwrap();
    }
}

fn fits(vpc: &Vpc, seen: &ObservedNetwork) -> bool {
    let bridge = vpc.network.bridge.as_ref();
    seen.base_matches(&vpc.network)
        && seen.uplink_matches(&vpc.network)
        && seen.bridge_matches(&vpc.network)
        && seen.join_matches(&vpc.network)
        && vpc
            .network
            .interfaces
            .iter()
            .all(|(link, tap)| seen.taps.get(link).is_some_and(|seen| seen.is_up_for(tap, bridge)))
}

async fn with_a_tap(machine: &Machine, to: Option<&str>) -> Vpc {
    let mut vpc = machine.bridge_vpc(1, to).await;
    Arc::make_mut(&mut vpc.network.interfaces).insert(tap(10), Vpc::interface(10));
    vpc
}

#[test]
fn what_was_made_is_seen_and_making_it_again_changes_nothing() {
    on_a_machine(|machine| async move {
        let _office = machine.office();
        for to in [None, Some("office")] {
            let vpc = with_a_tap(&machine, to).await;
            let mut before = None;
            for _ in 0..2 {
                make(&vpc).await;
                let now = seen(&vpc).await;
                assert!(fits(&vpc, &now), "{now:#?}");
                assert_eq!(*before.get_or_insert_with(|| now.clone()), now);
            }
        }
    });
}

#[test]
fn damage_is_seen_and_mended() {
    on_a_machine(|machine| async move {
        let _office = machine.office();
        let vpc = with_a_tap(&machine, Some("office")).await;
        let (outside, inside) = (&vpc.agent, &vpc.namespace);
        make(&vpc).await;
        let neighbour = format!("neigh del 10.0.0.10 lladdr {} dev bridge", mac(10));
        let damages = [
            (inside, "link set bridge down"),
            (inside, "link set bridge address 02:00:00:00:00:99"),
            (inside, "link set bridge type bridge nf_call_iptables 0"),
            (inside, "link set bridge type bridge stp_state 1"),
            (inside, "addr del 10.0.0.250/24 dev bridge"),
            (inside, "addr add 10.9.9.9/32 dev bridge"),
            (inside, "link del bridge"),
            (inside, "link set lan nomaster"),
            (inside, "link set lan down"),
            (inside, "link del lan"),
            (outside, "link set weftb1 down"),
            (outside, "link set weftb1 nomaster"),
            (outside, "link del weftb1"),
            (inside, "link set tap10 down"),
            (inside, "link set tap10 nomaster"),
            (inside, "link set tap10 type bridge_slave hairpin on"),
            (inside, "link set tap10 type bridge_slave flood on"),
            (inside, "link del tap10"),
            (inside, neighbour.as_str()),
        ];
        for (place, damage) in damages {
            ip(place, damage);
            assert!(!fits(&vpc, &seen(&vpc).await), "{damage} goes unseen");
            make(&vpc).await;
            let after = seen(&vpc).await;
            assert!(fits(&vpc, &after), "{damage} is not mended: {after:#?}");
        }
    });
}

fn described(namespace: &Namespace, link: &str) -> String {
    let run = || Command::new("ip").args(["-d", "link", "show", link]).output().unwrap();
    let text = String::from_utf8(namespace.enter(run).unwrap().stdout).unwrap();
    // Timers run, whatever we do.
    let words = text.split_whitespace().filter(|word| word.parse::<f64>().is_err());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_operators_bridge_is_as_it_was_while_joined_and_after() {
    on_a_machine(|machine| async move {
        let _office = machine.office();
        // A bridge takes the smallest MAC and MTU of its ports.
        ip(&machine.agent, "link set port0 mtu 9000");
        ip(&machine.agent, "link set port0 address fa:ff:ff:ff:ff:ff");
        let before = described(&machine.agent, "office");
        assert!(before.contains("fa:ff:ff:ff:ff:ff"), "{before}");
        let mtu = || {
            let path = "/proc/sys/net/ipv4/conf/office/forwarding";
            let run = || std::fs::read_to_string(path).unwrap();
            machine.agent.enter(run).unwrap()
        };
        let forwarding = mtu();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[all_in()], true).await;
        let guest = vpc.launch(10, &[1]).await;
        assert_eq!(described(&machine.agent, "office"), before, "while joined");
        assert!(guest.pings(address(1)));
        drop(guest);

        let link = uplinks(&machine.agent, "weft").await.unwrap();
        assert_eq!(link, ["weftb1".parse().unwrap()], "purge finds it");
        remove_uplink(&machine.agent, &link[0]).await.unwrap();
        Namespace::remove(&vpc.record).await.unwrap();
        assert_eq!(described(&machine.agent, "office"), before, "after");
        assert_eq!(mtu(), forwarding);
        let ports = || Command::new("ip").args(["-o", "link", "show", "master", "office"]).output();
        let ports = machine.agent.enter(ports).unwrap().unwrap().stdout;
        assert_eq!(String::from_utf8(ports).unwrap().lines().count(), 1);
    });
}

#[test]
fn a_bridge_that_is_missing_is_named_and_joined_when_it_appears() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.bridge_vpc(1, None).await;
        let _office = machine.office();
        ip(&machine.agent, "link del office");
        let bridge = vpc.network.bridge.as_mut().unwrap();
        bridge.joined = Some(weft_model::BridgeJoin {
            guest_link: "lan".parse().unwrap(),
            path: weft_model::JoinPath::Bridge {
                host_bridge: "office".parse().unwrap(),
                host_link: "weftb1".parse().unwrap(),
                vlan: None,
            },
        });
        let error = vpc.join_bridge().await.unwrap_err();
        assert!(error.to_string().starts_with("office is no link of this host; make"), "{error}");
        ip(&machine.agent, "link add office type veth peer name other");
        let error = vpc.join_bridge().await.unwrap_err();
        assert!(
            matches!(&error, NetworkError::NoSuchBridge { kind: Some(kind), .. } if kind == "veth")
        );
        assert!(uplinks(&machine.agent, "weft").await.unwrap().is_empty(), "nothing half made");
        ip(&machine.agent, "link del office");
        ip(&machine.agent, "link add office type bridge");
        vpc.join_bridge().await.unwrap();
        assert!(seen(&vpc).await.join_matches(&vpc.network));
    });
}

#[test]
fn a_tap_that_is_removed_leaves_nothing_on_the_bridge() {
    on_a_machine(|machine| async move {
        let vpc = with_a_tap(&machine, None).await;
        make(&vpc).await;
        let neighbours = || Command::new("ip").args(["neigh", "show", "nud", "permanent"]).output();
        let listed = || vpc.namespace.enter(neighbours).unwrap().unwrap().stdout;
        assert!(String::from_utf8(listed()).unwrap().contains("10.0.0.10 "));
        for _ in 0..2 {
            remove_tap(&vpc.namespace, &tap(10)).await.unwrap();
        }
        assert_eq!(String::from_utf8(listed()).unwrap(), "");
    });
}
