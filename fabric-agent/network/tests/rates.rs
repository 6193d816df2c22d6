//! Limits of interfaces, with real packets: in each direction, changed while they flow, healed; and
//! nobody else pays for them.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::guest::{Guest, connect, echoes};
use support::{Vpc, all_in, on_a_machine, tap};
use weft_model::{ObservedShaper, ObservedTap, TapInterface};
use weft_network::{observe, tap_up};

/// How long datagrams are sent for, each time.
const A_WHILE: Duration = Duration::from_millis(1500);
/// 250 kB/s: in that while at most a third of a MiB, and what a bucket holds: 64 KiB, and on the
/// way from a guest a second's worth besides.
const LIMIT: u32 = 2;
/// What gets through without a limit is more than so many times that, also on a busy machine.
const FAR_MORE: u64 = 4;
/// Of one datagram.
const PAYLOAD: [u8; 1400] = [7; 1400];

/// Bytes that arrive of what `from` sends to `to` for a while, as fast as it can.
fn flood(from: &Guest, to: &Guest) -> u64 {
    let receiver = to.namespace.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let count = std::thread::spawn(move || {
        let mut bytes = 0;
        while let Ok(length) = receiver.recv(&mut [0; 2048]) {
            bytes += length as u64;
        }
        bytes
    });
    let sender = from.namespace.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    let started = Instant::now();
    while started.elapsed() < A_WHILE {
        let _ = sender.send_to(&PAYLOAD, (to.address, port));
    }
    count.join().unwrap()
}

/// Limits guest `n` as the agent would, where it is.
async fn limit(vpc: &mut Vpc, n: u8, network_mbps: Option<u32>) {
    vpc.firewall(|firewall| {
        let interfaces = Arc::make_mut(&mut firewall.interfaces);
        interfaces.get_mut(&tap(n)).unwrap().network_mbps = network_mbps;
    })
    .await;
    let interface = TapInterface { network_mbps, ..Vpc::interface(n) };
    tap_up(&vpc.namespace, &tap(n), &interface, vpc.network.bridge.as_ref()).await.unwrap();
    Arc::make_mut(&mut vpc.network.interfaces).insert(tap(n), interface);
}

async fn seen(vpc: &Vpc, n: u8) -> ObservedTap {
    observe(&vpc.agent, &vpc.namespace).await.unwrap().taps[&tap(n)].clone()
}

/// Whether the kernel has everything as it was left.
async fn is_in_order(vpc: &Vpc, n: u8) -> bool {
    let firewall = vpc.nft.observe(vpc.network.bridge.is_some()).await.unwrap().unwrap();
    let interface = &vpc.network.interfaces[&tap(n)];
    seen(vpc, n).await.is_up_for(interface, vpc.network.bridge.as_ref())
        && firewall.is(&vpc.network.firewall)
}

async fn limits_hold_and_change_live(vpc: &mut Vpc) {
    vpc.rules(1, &[all_in()], true).await;
    let (limited, other) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
    let third = vpc.launch(12, &[1]).await;
    limit(vpc, 10, Some(LIMIT)).await;
    assert_eq!(seen(vpc, 10).await.shaper, ObservedShaper::Mbps(LIMIT));
    assert!(is_in_order(vpc, 10).await);

    let free = flood(&other, &third);
    for (what, from, to) in [("to it", &other, &limited), ("from it", &limited, &other)] {
        let through = flood(from, to);
        assert!(through > 0, "{what}");
        assert!(through * FAR_MORE < free, "{what}: {through} of {free} bytes");
    }

    // A connection, which adapts, in both directions of a path with a limit.
    limited.serve(80);
    let mut stream = connect(&other.namespace, limited.address, 80).unwrap().0;
    assert!(echoes(&mut stream));

    // More, and then none: where it is, without a new tap.
    let index = |vpc: &Vpc| vpc.namespace.enter(|| nix::net::if_::if_nametoindex("tap10").unwrap());
    let before = index(vpc).unwrap();
    limit(vpc, 10, Some(LIMIT * 50)).await;
    assert_eq!(seen(vpc, 10).await.shaper, ObservedShaper::Mbps(LIMIT * 50));
    assert!(is_in_order(vpc, 10).await);
    limit(vpc, 10, None).await;
    assert_eq!(seen(vpc, 10).await.shaper, ObservedShaper::None);
    assert!(is_in_order(vpc, 10).await);
    for (what, from, to) in [("to it", &other, &limited), ("from it", &limited, &other)] {
        let through = flood(from, to);
        assert!(through * FAR_MORE > free, "{what}: {through} of {free} bytes without a limit");
    }
    assert_eq!(index(vpc).unwrap(), before);
}

#[test]
fn a_guest_gets_and_sends_what_its_limit_is_and_no_more() {
    on_a_machine(|machine| async move {
        limits_hold_and_change_live(&mut machine.vpc(1, true).await).await;
    });
}

#[test]
fn so_it_is_behind_a_bridge() {
    on_a_machine(|machine| async move {
        limits_hold_and_change_live(&mut machine.bridge_vpc(1, None).await).await;
    });
}

#[test]
fn a_limit_that_somebody_took_away_or_changed_is_seen_and_set_again() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[all_in()], true).await;
        let _guest = vpc.launch(10, &[1]).await;
        let tc = |vpc: &Vpc, arguments: &str| {
            let run = || Command::new("tc").args(arguments.split(' ')).status().unwrap();
            assert!(vpc.namespace.enter(run).unwrap().success(), "tc {arguments}");
        };
        #[rustfmt::skip]
        let cases = [
            (Some(100_000), "qdisc del dev tap10 root",                                          ObservedShaper::None),
            (Some(1),       "qdisc change dev tap10 root tbf rate 9mbit burst 64kb latency 50ms", ObservedShaper::Mbps(9)),
            (Some(300),     "qdisc change dev tap10 root tbf rate 300mbit burst 9mb latency 50ms", ObservedShaper::Foreign),
            (None,          "qdisc add dev tap10 root tbf rate 9mbit burst 64kb latency 50ms",    ObservedShaper::Mbps(9)),
        ];
        for (mbps, damage, left) in cases {
            limit(&mut vpc, 10, mbps).await;
            assert!(is_in_order(&vpc, 10).await, "{mbps:?}");
            tc(&vpc, damage);
            assert_eq!(seen(&vpc, 10).await.shaper, left, "{damage}");
            assert!(!is_in_order(&vpc, 10).await, "{damage}");
            limit(&mut vpc, 10, mbps).await;
            assert!(is_in_order(&vpc, 10).await, "after {damage}");
        }
    });
}
