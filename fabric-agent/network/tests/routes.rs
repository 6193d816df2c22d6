//! Route tables: guests' packets go to a guest instead of the VPC's own way out; and what a guest
//! that forwards for others may send.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use support::guest::{Guest, connect, serve};
use support::{Vpc, address, ip, on_a_machine, tap};
use weft_model::{NextHop, Routes};
use weft_network::{observe, remove_tap, set_routes};

/// Beyond the host.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const TABLE: u32 = Routes::FIRST_TABLE + 3;

/// Everything that guest 11 sends out of the VPC goes to guest `to`, if to anyone.
fn by_way_of(to: Option<u8>) -> Routes {
    let hop = to.map(|n| NextHop { link: tap(n), address: address(n) });
    Routes {
        tables: BTreeMap::from([(TABLE, BTreeMap::from([("0.0.0.0/0".parse().unwrap(), hop)]))]),
        links: BTreeMap::from([(tap(11), TABLE)]),
        main_first: true,
        main_lost: false,
    }
}

async fn seen(vpc: &Vpc) -> Routes {
    observe(&vpc.agent, &vpc.namespace).await.unwrap().routes
}

/// Whether a datagram to [`OUTSIDE`] arrives at `appliance`, who has that address too.
fn arrives_at(appliance: &Guest, from: &Guest) -> bool {
    let bound = appliance.namespace.enter(|| UdpSocket::bind((OUTSIDE, 9))).unwrap().unwrap();
    bound.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let socket = from.namespace.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    // What is unreachable is an error here already.
    let _ = socket.send_to(b"hello", (OUTSIDE, 9));
    bound.recv_from(&mut [0; 8]).is_ok()
}

#[test]
fn packets_follow_the_table_of_the_tap_that_they_come_in_by() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        let internet = machine.internet();
        ip(&internet, "route add 10.0.0.0/16 via 203.0.113.1");
        serve(&internet, 80);
        weft_network::enable_forwarding(&machine.agent).unwrap();
        vpc.rules(1, &[support::all_in()], true).await;
        let (appliance, client) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        let neighbour = vpc.launch(12, &[1]).await;
        appliance.ip("addr add 203.0.113.9/32 dev lo");
        neighbour.serve(80);
        assert!(client.connects(OUTSIDE, 80), "the VPC's own way out");
        assert_eq!(seen(&vpc).await, Routes::default());

        let wanted = by_way_of(Some(10));
        set_routes(&vpc.namespace, &wanted).await.unwrap();
        assert_eq!(seen(&vpc).await, wanted);
        set_routes(&vpc.namespace, &wanted).await.unwrap();
        assert_eq!(seen(&vpc).await, wanted, "once more changes nothing");
        assert!(!client.connects(OUTSIDE, 80), "no longer the way out");
        assert!(arrives_at(&appliance, &client), "but the appliance");
        assert!(client.connects(neighbour.address, 80), "the VPC's own addresses stay in it");
        assert!(neighbour.connects(OUTSIDE, 80), "others are not led there");

        // The appliance goes, and nothing takes the VPC's own way out instead.
        remove_tap(&vpc.namespace, &tap(10)).await.unwrap();
        assert!(!client.connects(OUTSIDE, 80));
        let mut lost = wanted.clone();
        lost.lose(&tap(10));
        assert_eq!(seen(&vpc).await, lost, "as the planner believes");
        set_routes(&vpc.namespace, &by_way_of(None)).await.unwrap();
        assert!(!client.connects(OUTSIDE, 80), "a route to nowhere");

        set_routes(&vpc.namespace, &Routes::default()).await.unwrap();
        assert_eq!(seen(&vpc).await, Routes::default());
        assert!(client.connects(OUTSIDE, 80), "the VPC's own way out again");

        for rules in ["rule flush", "-6 rule flush"] {
            ip(&vpc.namespace, rules);
            let lost = Routes { main_lost: true, ..Routes::default() };
            assert_eq!(seen(&vpc).await, lost, "{rules} is seen");
            set_routes(&vpc.namespace, &Routes::default()).await.unwrap();
            assert_eq!(seen(&vpc).await, Routes::default(), "{rules} is mended");
        }
        assert!(client.connects(OUTSIDE, 80), "with the namespace's own rules");
    });
}

/// Makes `appliance` a NAT: what comes in goes out as its own.
fn translate(appliance: &Guest) {
    let set = || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let table = "table ip nat { chain out { type nat hook postrouting priority srcnat; \
                     oifname eth0 masquerade; }; }";
        let done = Command::new("nft").arg(table).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    appliance.namespace.enter(set).unwrap();
}

/// Who the server beyond the host says that it sees.
fn seen_outside(client: &Guest) -> Option<IpAddr> {
    connect(&client.namespace, OUTSIDE, 80).map(|(_, seen)| seen)
}

#[test]
fn a_guest_whose_sources_are_not_checked_is_the_nat_of_others() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        let internet = machine.internet();
        ip(&internet, "route add 10.0.0.0/16 via 203.0.113.1");
        serve(&internet, 80);
        weft_network::enable_forwarding(&machine.agent).unwrap();
        vpc.rules(1, &[support::all_in()], true).await;
        let (appliance, client) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        translate(&appliance);
        assert_eq!(seen_outside(&client), Some(client.address.into()), "the VPC's own way out");
        set_routes(&vpc.namespace, &by_way_of(Some(10))).await.unwrap();
        assert_eq!(seen_outside(&client), None, "the answers are not the appliance's own");

        vpc.check_sources(10, false).await;
        assert_eq!(seen_outside(&client), Some(appliance.address.into()));
        let network = observe(&vpc.agent, &vpc.namespace).await.unwrap();
        assert_eq!(network.taps[&tap(10)].source_dest_check, Some(false));
        assert_eq!(network.taps[&tap(11)].source_dest_check, Some(true));
        assert!(network.sysctls_ok && network.uplink.unwrap().guest_sysctls_ok);

        vpc.check_sources(10, true).await;
        assert_eq!(seen_outside(&client), None, "checked again");
    });
}

#[test]
fn a_guest_that_forwards_is_nobody_of_the_vpc_and_no_router() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        let internet = machine.internet();
        weft_network::enable_forwarding(&machine.agent).unwrap();
        vpc.rules(1, &[support::all_in()], true).await;
        let (appliance, client) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        let foreign = Ipv4Addr::new(198, 51, 100, 7);
        let of_the_vpc = [
            Ipv4Addr::new(10, 0, 0, 12),
            Ipv4Addr::new(10, 0, 0, 1),
            Ipv4Addr::new(10, 0, 7, 7),
            weft_model::METADATA_ADDRESS,
            Ipv4Addr::new(169, 254, 128, 6),
        ];
        // It asks for its neighbours in its own name, as for packets of others.
        let announce = || std::fs::write("/proc/sys/net/ipv4/conf/all/arp_announce", "2");
        appliance.namespace.enter(announce).unwrap().unwrap();
        for source in of_the_vpc.into_iter().chain([foreign]) {
            appliance.ip(&format!("addr add {source}/32 dev lo"));
        }
        assert!(!appliance.datagram_arrives(Some(foreign), &client), "checked");
        vpc.check_sources(10, false).await;
        assert!(appliance.datagram_arrives(Some(foreign), &client));
        assert!(appliance.datagram_arrives(None, &client), "and as itself");
        for source in of_the_vpc {
            assert!(!appliance.datagram_arrives(Some(source), &client), "{source}");
        }

        // Nor do the host's networks see what is not of the VPC.
        let bound = internet.enter(|| UdpSocket::bind((OUTSIDE, 9))).unwrap().unwrap();
        bound.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        for (source, passes) in [(foreign, false), (appliance.address, true)] {
            let sender = appliance.namespace.enter(|| UdpSocket::bind((source, 0)));
            sender.unwrap().unwrap().send_to(b"hello", (OUTSIDE, 9)).unwrap();
            assert_eq!(bound.recv_from(&mut [0; 8]).is_ok(), passes, "{source}");
        }
    });
}

#[test]
fn switches_of_sources_that_were_changed_by_hand_are_seen_and_set_again() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        let _guest = vpc.launch(10, &[]).await;
        let set = |file: &'static str, value: &'static str| {
            let path = format!("/proc/sys/net/ipv4/conf/{file}/rp_filter");
            vpc.namespace.enter(move || std::fs::write(path, value).unwrap()).unwrap();
        };
        let network = || async { observe(&vpc.agent, &vpc.namespace).await.unwrap() };
        assert!(network().await.base_matches(&vpc.network));
        assert!(network().await.uplink_matches(&vpc.network));
        set("all", "1");
        assert!(!network().await.base_matches(&vpc.network));
        set("uplink", "0");
        assert!(!network().await.uplink_matches(&vpc.network));
        set("tap10", "2");
        assert_eq!(network().await.taps[&tap(10)].source_dest_check, None);

        weft_network::ensure_base(&vpc.namespace, &vpc.network).await.unwrap();
        vpc.ensure_uplink().await;
        let wanted = &vpc.network.interfaces[&tap(10)];
        weft_network::add_tap(&vpc.namespace, &tap(10), wanted).await.unwrap();
        let healed = network().await;
        assert!(healed.base_matches(&vpc.network) && healed.uplink_matches(&vpc.network));
        assert!(healed.taps[&tap(10)].is_made_for(wanted));
    });
}
