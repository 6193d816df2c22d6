//! Public addresses and forwarded ports: who reaches whom, and as whom, with real packets.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use support::guest::{connect, echoes, serve};
use support::{Machine, Vpc, address, all_in, cidr, ip, on_a_machine, tcp_in};
use weft_firewall::HostNat;
use weft_model::{FirewallForward, HostForward, TransportProtocol};
use weft_network::{answer_for, enable_forwarding};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 5);
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 6);
/// The machine outside, and the host as it sees it.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// Gives the guest 10.0.0.`n` the address `public`, as the agent does: the packet filter by its
/// difference, then the route.
async fn associate(vpc: &mut Vpc, public: Ipv4Addr, n: u8) {
    vpc.firewall(|firewall| {
        firewall.nat.public.insert(public, address(n));
    })
    .await;
    vpc.network.uplink.as_mut().unwrap().public.insert(public);
    vpc.ensure_uplink().await;
}

async fn disassociate(vpc: &mut Vpc, public: Ipv4Addr) {
    vpc.network.uplink.as_mut().unwrap().public.remove(&public);
    vpc.ensure_uplink().await;
    vpc.firewall(|firewall| {
        firewall.nat.public.remove(&public);
    })
    .await;
}

/// The host's side of `vpcs`, as the agent works it out, with what `change` makes of it.
async fn host(machine: &Machine, vpcs: &[&Vpc], change: impl FnOnce(&mut HostNat)) {
    let public: BTreeSet<Ipv4Addr> =
        vpcs.iter().flat_map(|vpc| vpc.uplink().public.clone()).collect();
    enable_forwarding(&machine.agent).unwrap();
    let answered = answer_for(&machine.agent, "weft", &public).await.unwrap();
    let mut wanted = Machine::host_nat(vpcs);
    wanted.hidden = public.difference(&answered).copied().collect();
    wanted.public = public;
    change(&mut wanted);
    machine.apply_host_nat(&wanted).await;
}

fn seen_as(from: &weft_network::Namespace, to: Ipv4Addr, port: u16) -> Option<Ipv4Addr> {
    connect(from, to, port).map(|(_, seen)| match seen {
        std::net::IpAddr::V4(seen) => seen,
        std::net::IpAddr::V6(seen) => panic!("{seen}"),
    })
}

#[test]
fn a_public_address_leads_to_its_guest_and_the_source_is_kept() {
    on_a_machine(|machine| async move {
        let internet = machine.internet();
        ip(&internet, &format!("route add 198.18.0.0/24 via {HOST}"));
        let mut vpc = machine.vpc(1, false).await;
        vpc.rules(1, &[tcp_in(80, cidr("203.0.113.9/32"))], true).await;
        let web = vpc.launch(10, &[1]).await;
        web.serve(80);
        web.serve(81);
        host(&machine, &[&vpc], |_| {}).await;
        assert_eq!(seen_as(&internet, PUBLIC, 80), None, "nobody has it yet");
        associate(&mut vpc, PUBLIC, 10).await;
        host(&machine, &[&vpc], |_| {}).await;
        assert_eq!(seen_as(&internet, PUBLIC, 80), Some(OUTSIDE), "the groups see who it is");
        assert_eq!(seen_as(&internet, PUBLIC, 81), None, "no rule lets it in");
        assert!(seen_as(&machine.agent, PUBLIC, 80).is_none(), "the host is somebody else");
        vpc.rules(1, &[all_in()], true).await;
        assert!(seen_as(&machine.agent, PUBLIC, 80).is_some(), "and reaches it where it may");

        let (mut flow, _) = connect(&internet, PUBLIC, 80).unwrap();
        let _other = vpc.launch(11, &[1]).await;
        associate(&mut vpc, OTHER, 11).await;
        host(&machine, &[&vpc], |_| {}).await;
        assert!(echoes(&mut flow), "another's association cuts nothing");
        disassociate(&mut vpc, PUBLIC).await;
        host(&machine, &[&vpc], |_| {}).await;
        assert_eq!(seen_as(&internet, PUBLIC, 80), None, "it leads nowhere any more");
    });
}

#[test]
fn an_address_that_only_the_host_knows_hides_behind_it_outside() {
    on_a_machine(|machine| async move {
        let internet = machine.internet();
        serve(&internet, 80);
        let mut vpc = machine.vpc(1, false).await;
        vpc.rules(1, &[], true).await;
        let (with, without) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        associate(&mut vpc, PUBLIC, 10).await;
        host(&machine, &[&vpc], |_| {}).await;
        assert_eq!(seen_as(&with.namespace, OUTSIDE, 80), Some(HOST));
        assert_eq!(seen_as(&without.namespace, OUTSIDE, 80), Some(HOST));
    });
}

#[test]
fn an_address_of_the_lan_is_answered_for_and_is_what_the_lan_sees() {
    on_a_machine(|machine| async move {
        let lan_address = Ipv4Addr::new(203, 0, 113, 77);
        // It knows of no router: only an answer to its ARP leads it here.
        let internet = machine.internet();
        serve(&internet, 80);
        let mut vpc = machine.vpc(1, false).await;
        vpc.rules(1, &[all_in()], true).await;
        let web = vpc.launch(10, &[1]).await;
        web.serve(80);
        associate(&mut vpc, lan_address, 10).await;
        host(&machine, &[&vpc], |_| {}).await;
        ip(&internet, "link set lo up");
        let reached = (0..5).find_map(|_| seen_as(&internet, lan_address, 80));
        assert_eq!(reached, Some(OUTSIDE), "from the LAN");
        assert_eq!(seen_as(&web.namespace, OUTSIDE, 80), Some(lan_address), "to the LAN");
        disassociate(&mut vpc, lan_address).await;
        host(&machine, &[&vpc], |_| {}).await;
        let left =
            std::process::Command::new("ip").args(["neigh", "show", "proxy"]).output().unwrap();
        assert!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
        assert_eq!(seen_as(&web.namespace, OUTSIDE, 80), Some(HOST), "as any other guest");
    });
}

#[test]
fn a_proxy_entry_of_the_operators_stays() {
    on_a_machine(|machine| async move {
        let _internet = machine.internet();
        ip(&machine.agent, "neigh add proxy 203.0.113.50 dev wan0");
        answer_for(&machine.agent, "weft", &BTreeSet::new()).await.unwrap();
        let list = || {
            let left = std::process::Command::new("ip").args(["neigh", "show", "proxy"]).output();
            String::from_utf8(left.unwrap().stdout).unwrap()
        };
        assert!(list().contains("203.0.113.50"), "{}", list());
        let ours = BTreeSet::from([Ipv4Addr::new(203, 0, 113, 51), PUBLIC]);
        let answered = answer_for(&machine.agent, "weft", &ours).await.unwrap();
        assert_eq!(answered, BTreeSet::from([Ipv4Addr::new(203, 0, 113, 51)]));
        assert!(list().contains("203.0.113.51 dev wan0"), "{}", list());
        answer_for(&machine.agent, "weft", &BTreeSet::new()).await.unwrap();
        assert!(!list().contains("203.0.113.51") && list().contains("203.0.113.50"), "{}", list());
    });
}

#[test]
fn guests_beside_it_reach_a_public_address_as_themselves() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, false).await;
        vpc.rules(1, &[all_in()], true).await;
        let (web, beside) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        web.serve(80);
        associate(&mut vpc, PUBLIC, 10).await;
        host(&machine, &[&vpc], |_| {}).await;
        assert_eq!(seen_as(&beside.namespace, PUBLIC, 80), Some(address(11)));
        assert_eq!(seen_as(&web.namespace, PUBLIC, 80), Some(PUBLIC), "it talks to itself");
        vpc.rules(1, &[tcp_in(80, cidr("10.0.0.12/32"))], true).await;
        assert_eq!(seen_as(&beside.namespace, PUBLIC, 80), None, "the groups hold");
    });
}

#[test]
fn another_vpc_reaches_public_addresses_and_never_private_ones() {
    on_a_machine(|machine| async move {
        // Both have the range 10.0.0.0/16; the first has the host's route.
        let (mut first, mut second) = (machine.vpc(1, true).await, machine.vpc(2, false).await);
        for vpc in [&mut first, &mut second] {
            vpc.rules(1, &[all_in()], true).await;
        }
        let (a, b) = (first.launch(10, &[1]).await, second.launch(20, &[1]).await);
        let plain = second.launch(21, &[1]).await;
        for guest in [&a, &b, &plain] {
            guest.serve(80);
        }
        associate(&mut first, PUBLIC, 10).await;
        associate(&mut second, OTHER, 20).await;
        host(&machine, &[&first, &second], |_| {}).await;
        assert_eq!(seen_as(&a.namespace, OTHER, 80), Some(PUBLIC));
        assert_eq!(seen_as(&b.namespace, PUBLIC, 80), Some(OTHER));
        let hidden = seen_as(&plain.namespace, PUBLIC, 80).unwrap();
        assert!(hidden.is_link_local(), "{hidden}: it has no public address");
        assert_eq!(seen_as(&a.namespace, address(20), 80), None, "private, the same range");
        ip(&second.namespace, "route add 10.0.0.10/32 via 169.254.128.9");
        assert_eq!(seen_as(&plain.namespace, address(10), 80), None, "private, led there by force");
    });
}

#[test]
fn an_address_moves_to_another_vpc() {
    on_a_machine(|machine| async move {
        let (mut first, mut second) = (machine.vpc(1, false).await, machine.vpc(2, false).await);
        for vpc in [&mut first, &mut second] {
            vpc.rules(1, &[all_in()], true).await;
        }
        let (a, b) = (first.launch(10, &[1]).await, second.launch(20, &[1]).await);
        a.serve(80);
        b.serve(81);
        associate(&mut first, PUBLIC, 10).await;
        host(&machine, &[&first, &second], |_| {}).await;
        assert!(seen_as(&machine.agent, PUBLIC, 80).is_some());
        // The second one is brought in order before the first one gives it up.
        associate(&mut second, PUBLIC, 20).await;
        disassociate(&mut first, PUBLIC).await;
        host(&machine, &[&first, &second], |_| {}).await;
        assert!(seen_as(&machine.agent, PUBLIC, 81).is_some());
        assert!(seen_as(&machine.agent, PUBLIC, 80).is_none());
    });
}

#[test]
fn the_host_is_closed_to_guests_but_for_what_its_operator_opens() {
    on_a_machine(|machine| async move {
        let _internet = machine.internet();
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[all_in()], true).await;
        let guest = vpc.launch(10, &[1]).await;
        guest.serve(80);
        serve(&machine.agent, 8080);
        serve(&machine.agent, 7443);
        host(&machine, &[&vpc], |_| {}).await;
        let uplink = vpc.uplink().host_addr;
        for address in [uplink, HOST] {
            assert!(!guest.connects(address, 8080) && !guest.connects(address, 7443), "{address}");
            assert!(guest.pings(address), "{address}");
        }
        assert!(connect(&machine.agent, guest.address, 80).is_some(), "what the host opens");
        let open = BTreeSet::from(["tcp/8080".parse().unwrap()]);
        host(&machine, &[&vpc], |wanted| wanted.guest_access = open).await;
        for address in [uplink, HOST] {
            assert!(guest.connects(address, 8080) && !guest.connects(address, 7443), "{address}");
        }
    });
}

#[test]
fn a_port_of_the_host_leads_to_a_guest_from_outside_and_from_the_host() {
    on_a_machine(|machine| async move {
        let internet = machine.internet();
        let mut vpc = machine.vpc(1, false).await;
        vpc.rules(1, &[tcp_in(80, cidr("203.0.113.0/24"))], true).await;
        let web = vpc.launch(10, &[1]).await;
        web.serve(80);
        let protocol = TransportProtocol::Tcp;
        let into = FirewallForward { protocol, port: 8080, address: address(10), target_port: 80 };
        vpc.firewall(|firewall| {
            firewall.nat.forwards.insert(into);
        })
        .await;
        let to = vpc.uplink().guest_addr;
        let forward = |address| HostForward { protocol, port: 8080, address, to };
        host(&machine, &[&vpc], |wanted| wanted.forwards = [forward(None)].into()).await;
        assert_eq!(seen_as(&internet, HOST, 8080), Some(OUTSIDE), "the source is kept");
        assert_eq!(seen_as(&machine.agent, HOST, 8080), Some(HOST), "from the host itself");
        assert_eq!(seen_as(&machine.agent, Ipv4Addr::LOCALHOST, 8080), None);
        assert_eq!(seen_as(&internet, HOST, 80), None, "another port");
        vpc.rules(1, &[tcp_in(80, cidr("203.0.113.1/32"))], true).await;
        assert_eq!(seen_as(&internet, HOST, 8080), None, "the groups hold");
        assert_eq!(seen_as(&machine.agent, HOST, 8080), Some(HOST));

        vpc.rules(1, &[all_in()], true).await;
        let elsewhere = Ipv4Addr::new(203, 0, 113, 2);
        host(&machine, &[&vpc], |wanted| wanted.forwards = [forward(Some(elsewhere))].into()).await;
        assert_eq!(seen_as(&internet, HOST, 8080), None, "of another address of the host");
        ip(&machine.agent, "addr add 203.0.113.2/24 dev wan0");
        assert_eq!(seen_as(&internet, elsewhere, 8080), Some(OUTSIDE));
    });
}

#[test]
fn a_guest_reaches_a_forwarded_port_of_another_vpc() {
    on_a_machine(|machine| async move {
        let _internet = machine.internet();
        let (mut first, mut second) = (machine.vpc(1, true).await, machine.vpc(2, false).await);
        for vpc in [&mut first, &mut second] {
            vpc.rules(1, &[all_in()], true).await;
        }
        let (web, client) = (first.launch(10, &[1]).await, second.launch(20, &[1]).await);
        web.serve(80);
        let protocol = TransportProtocol::Tcp;
        let into = FirewallForward { protocol, port: 8080, address: address(10), target_port: 80 };
        first
            .firewall(|firewall| {
                firewall.nat.forwards.insert(into);
            })
            .await;
        let to = first.uplink().guest_addr;
        let forward = HostForward { protocol, port: 8080, address: None, to };
        host(&machine, &[&first, &second], |wanted| wanted.forwards = [forward].into()).await;
        assert!(client.connects(HOST, 8080));
        assert!(!client.connects(HOST, 80));
    });
}
