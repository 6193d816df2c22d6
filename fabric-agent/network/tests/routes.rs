//! Route tables: guests' packets go to a guest instead of the VPC's own way out.
mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use support::guest::{Guest, serve};
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
    });
}
