//! A VPC that is a bridge, joined to a link of the operator's that is in no bridge: what reaches
//! whom, what the link is meanwhile and after, and what is refused.
#![expect(clippy::unwrap_used, reason = "tests may panic and must not skip quietly")]

mod support;

use std::process::Command;

use support::guest::{Guest, connect, move_link, new_namespace, serve};
use support::{Machine, Vpc, address, cidr, ip, on_a_machine, tcp_in};
use weft_model::{JoinPath, Lan, LanLink, Trunk};
use weft_network::{
    Namespace, NetworkError, check_lan, has_vlans, leave_lan, observe, remove_strays, uplinks,
};

/// A spare card `nic1`, down, with a machine behind it: 10.0.0.1, and in VLAN 20 as well if the
/// kernel has VLANs.
fn spare_card(machine: &Machine) -> Namespace {
    let lan = new_namespace();
    ip(&machine.agent, "link add nic1 type veth peer name lan");
    move_link(&machine.agent, "lan", &lan);
    ip(&lan, "link set lo up");
    ip(&lan, "link set lan up");
    lan
}

fn around(n: u8) -> JoinPath {
    JoinPath::Uplink {
        uplink: "nic1".parse().unwrap(),
        host_bridge: format!("weftl{n}").parse().unwrap(),
        host_link: format!("weftb{n}").parse().unwrap(),
    }
}

fn vlan(id: u16) -> JoinPath {
    JoinPath::Vlan { uplink: "nic1".parse().unwrap(), vlan_id: id }
}

fn lan(link: LanLink, vlan_id: Option<u16>) -> Lan {
    Lan { link, vlan_id }
}

fn uplink(name: &str) -> LanLink {
    LanLink::Uplink(name.parse().unwrap())
}

/// The link as `ip` shows it: flags, MTU, MAC, what it is a port of.
fn described(namespace: &Namespace, link: &str) -> String {
    let run = || Command::new("ip").args(["-o", "link", "show", link]).output().unwrap();
    let text = String::from_utf8(namespace.enter(run).unwrap().stdout).unwrap();
    // The queue that the kernel gives a link when it is first up, and leaves to it.
    text.replace(" qdisc noop ", " qdisc noqueue ")
}

/// A bridge takes to a VLAN link only when the kernel has told it that the link has carrier, which
/// it does once a second (`net/core/link_watch.c`).
fn reaches(guest: &Guest) -> bool {
    (0..20).any(|_| guest.connects(address(1), 7070))
}

async fn is_joined(vpc: &Vpc) -> bool {
    let seen = observe(&vpc.agent, &vpc.namespace).await.unwrap();
    seen.bridge_matches(&vpc.network) && seen.join_matches(&vpc.network)
}

#[test]
fn a_spare_card_leads_guests_to_its_lan_and_is_given_back() {
    on_a_machine(|machine| async move {
        let office = spare_card(&machine);
        ip(&office, "addr add 10.0.0.1/24 dev lan");
        // The host has an address elsewhere, which the LAN must not learn of.
        ip(&machine.agent, "link add other type veth peer name far");
        ip(&machine.agent, "addr add 10.0.0.77/32 dev other");
        ip(&machine.agent, "link set other up");
        let before = described(&machine.agent, "nic1");
        assert!(before.contains("state DOWN"), "{before}");

        let mut vpc = machine.bridge_vpc_by(1, Some(around(1))).await;
        for _ in 0..2 {
            vpc.join_bridge().await.unwrap();
            assert!(is_joined(&vpc).await);
        }
        vpc.rules(1, &[tcp_in(80, cidr("10.0.0.1/32"))], true).await;
        let guest = vpc.launch(10, &[1]).await;
        guest.serve(80);
        guest.serve(22);
        serve(&office, 7070);
        // A card that was down a moment ago: the kernel tells its link's carrier within a second or two
        // on a slow machine (`linkwatch` in Linux net/core/link_watch.c).
        assert!((0..5).any(|_| guest.connects(address(1), 7070)), "out");
        assert!(connect(&office, guest.address, 80).is_some(), "in, as a rule has it");
        assert!(connect(&office, guest.address, 22).is_none(), "default deny");
        serve(&machine.agent, 7071);
        assert!(connect(&office, address(77), 7071).is_none(), "the host is not on that LAN");

        leave_lan(&vpc.agent, &vpc.namespace).await.unwrap();
        leave_lan(&vpc.agent, &vpc.namespace).await.unwrap();
        assert_eq!(described(&machine.agent, "nic1"), before, "as it was: down, and free");
        assert!(uplinks(&machine.agent, "weft").await.unwrap().is_empty(), "nothing is left");
        assert!(!is_joined(&vpc).await);
    });
}

#[test]
fn a_card_that_was_up_stays_up_and_one_that_leads_nowhere_any_more_is_swept() {
    on_a_machine(|machine| async move {
        let _office = spare_card(&machine);
        ip(&machine.agent, "link set nic1 up");
        let before = described(&machine.agent, "nic1");
        let vpc = machine.bridge_vpc_by(1, Some(around(1))).await;
        vpc.join_bridge().await.unwrap();
        remove_strays(&machine.agent, "weft").await.unwrap();
        assert!(is_joined(&vpc).await, "in use");
        // The namespace was lost with the end of the pair that was in it.
        ip(&vpc.namespace, "link del lan");
        remove_strays(&machine.agent, "weft").await.unwrap();
        assert_eq!(described(&machine.agent, "nic1"), before);
        assert!(uplinks(&machine.agent, "weft").await.unwrap().is_empty());
    });
}

#[test]
fn damage_around_a_card_is_seen_and_mended() {
    on_a_machine(|machine| async move {
        let _office = spare_card(&machine);
        let vpc = machine.bridge_vpc_by(1, Some(around(1))).await;
        vpc.join_bridge().await.unwrap();
        ip(&machine.agent, "link add intruder type veth peer name far");
        for damage in [
            "link set nic1 nomaster",
            "link set nic1 down",
            "link set weftl1 down",
            "link del weftl1",
            "link set weftb1 nomaster",
            "link del weftb1",
            "link set intruder master weftl1",
        ] {
            ip(&machine.agent, damage);
            assert!(!is_joined(&vpc).await, "{damage} goes unseen");
            vpc.join_bridge().await.unwrap();
            assert!(is_joined(&vpc).await, "{damage} is not mended");
        }
    });
}

#[test]
fn what_would_cut_the_host_off_or_is_none_of_its_links_is_refused() {
    on_a_machine(|machine| async move {
        let _office = machine.office();
        let _card = spare_card(&machine);
        ip(&machine.agent, "link add used type veth peer name far");
        ip(&machine.agent, "addr add 192.0.2.5/24 dev used");
        let vpc = machine.bridge_vpc(1, Some("office")).await;
        #[rustfmt::skip]
        let cases = [
            (uplink("nic1"),   "ok"),
            (uplink("none"),   "none is no link of this host"),
            (uplink("lo"),     "lo leads nowhere"),
            (uplink("office"), "office is a bridge: name it as bridge_name"),
            (uplink("port0"),  "port0 is a port of office already"),
            (uplink("used"),   "used has the address 192.0.2.5/24"),
            (uplink("weftb1"), "weftb1 is a link that Weft made"),
            (LanLink::Bridge("office".parse().unwrap()), "ok"),
            (LanLink::Bridge("nic1".parse().unwrap()),   "nic1 is a link of kind \"veth\""),
        ];
        for (link, want) in cases {
            let got = match check_lan(&machine.agent, &lan(link.clone(), None)).await {
                Ok(()) => "ok".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(got.starts_with(want), "{link:?}: {got}");
        }
        // What appears only after it was looked at is left alone as well.
        let path = JoinPath::Uplink {
            uplink: "used".parse().unwrap(),
            host_bridge: "weftl2".parse().unwrap(),
            host_link: "weftb2".parse().unwrap(),
        };
        let late = machine.bridge_vpc_by(2, Some(path)).await;
        let error = late.join_bridge().await.unwrap_err();
        assert!(matches!(error, NetworkError::UnfitUplink { .. }), "{error}");
        assert_eq!(uplinks(&machine.agent, "weft").await.unwrap().len(), 1, "only that of VPC 1");
        drop(vpc);
    });
}

#[test]
fn a_kernel_without_vlans_is_named_and_nothing_is_half_made() {
    on_a_machine(|machine| async move {
        let _card = spare_card(&machine);
        let asked = check_lan(&machine.agent, &lan(uplink("nic1"), Some(20))).await;
        if has_vlans(&machine.agent).await.unwrap() {
            asked.unwrap();
            return;
        }
        assert!(matches!(asked, Err(NetworkError::NoVlans)), "{asked:?}");
        let vpc = machine.bridge_vpc_by(1, Some(vlan(20))).await;
        let error = vpc.join_bridge().await.unwrap_err();
        assert!(error.to_string().contains("modprobe 8021q"), "{error}");
        assert!(!is_joined(&vpc).await);
    });
}

#[test]
fn each_vlan_of_a_card_is_a_lan_of_its_own() {
    on_a_machine(|machine| async move {
        if !has_vlans(&machine.agent).await.unwrap() {
            eprintln!("SKIPPED: this kernel has no VLAN links; make lab-kvm runs this test");
            return;
        }
        let office = spare_card(&machine);
        for id in [20, 30] {
            ip(&office, &format!("link add link lan name lan.{id} type vlan id {id}"));
            ip(&office, &format!("link set lan.{id} up"));
        }
        ip(&office, "addr add 10.0.0.1/24 dev lan.20");
        // The card is the host's own as well, and stays so.
        ip(&machine.agent, "addr add 192.0.2.5/24 dev nic1");
        ip(&machine.agent, "link set nic1 up");
        ip(&office, "addr add 192.0.2.9/24 dev lan");
        serve(&office, 7070);

        let mut twenty = machine.bridge_vpc_by(1, Some(vlan(20))).await;
        let mut thirty = machine.bridge_vpc_by(2, Some(vlan(30))).await;
        for vpc in [&mut twenty, &mut thirty] {
            for _ in 0..2 {
                vpc.join_bridge().await.unwrap();
                assert!(is_joined(vpc).await);
            }
            vpc.rules(1, &[tcp_in(80, cidr("10.0.0.1/32"))], true).await;
        }
        let inside = twenty.launch(10, &[1]).await;
        let beside = thirty.launch(11, &[1]).await;
        inside.serve(80);
        assert!(reaches(&inside), "its own VLAN");
        assert!(connect(&office, inside.address, 80).is_some(), "and back");
        assert!(!beside.connects(address(1), 7070), "another VLAN");
        let far = "192.0.2.9".parse().unwrap();
        assert!(connect(&machine.agent, far, 7070).is_some(), "the host as before");

        for damage in ["link set lan down", "link set lan nomaster", "link del lan"] {
            ip(&twenty.namespace, damage);
            assert!(!is_joined(&twenty).await, "{damage} goes unseen");
            twenty.join_bridge().await.unwrap();
            assert!(is_joined(&twenty).await, "{damage} is not mended");
        }
        assert!(reaches(&inside), "after the damage");
        leave_lan(&twenty.agent, &twenty.namespace).await.unwrap();
        assert!(!is_joined(&twenty).await);
        assert!(connect(&machine.agent, far, 7070).is_some(), "the host as before");
    });
}

#[test]
fn a_vlan_of_a_bridge_comes_tagged_through_its_port() {
    on_a_machine(|machine| async move {
        if !has_vlans(&machine.agent).await.unwrap() {
            eprintln!("SKIPPED: this kernel has no VLAN links; make lab-kvm runs this test");
            return;
        }
        let office = machine.office();
        ip(&office, "addr del 10.0.0.1/24 dev lan");
        ip(&office, "link add link lan name lan.20 type vlan id 20");
        ip(&office, "addr add 10.0.0.1/24 dev lan.20");
        ip(&office, "link set lan.20 up");
        serve(&office, 7070);
        let trunk = Some(Trunk { link: "trunk".parse().unwrap(), vlan_id: 20 });
        let path = JoinPath::Bridge {
            host_bridge: "office".parse().unwrap(),
            host_link: "weftb1".parse().unwrap(),
            vlan: trunk,
        };
        let mut vpc = machine.bridge_vpc_by(1, Some(path)).await;
        // A bridge that looks at tags, and one that does not.
        for filtering in [0, 1] {
            let office = format!("link set office type bridge vlan_filtering {filtering}");
            ip(&machine.agent, &office);
            let port = || {
                Command::new("bridge").args(["vlan", "add", "vid", "20", "dev", "port0"]).output()
            };
            machine.agent.enter(port).unwrap().unwrap();
            leave_lan(&vpc.agent, &vpc.namespace).await.unwrap();
            for _ in 0..2 {
                vpc.join_bridge().await.unwrap();
                assert!(is_joined(&vpc).await);
            }
            vpc.rules(1, &[], true).await;
            let guest = vpc.launch(10 + filtering, &[1]).await;
            assert!(reaches(&guest), "vlan_filtering {filtering}");
        }
        ip(&vpc.namespace, "link set trunk down");
        assert!(!is_joined(&vpc).await, "the pair is looked at too");
        vpc.join_bridge().await.unwrap();
        assert!(is_joined(&vpc).await);
    });
}
