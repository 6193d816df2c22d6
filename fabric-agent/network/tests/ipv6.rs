//! IPv6 in a dual-stack VPC: guests behind real taps, the packet filter in the kernel.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, socket,
};

use support::frame::{counted, ethernet};
use support::guest::{Guest, checksum};
use support::{Vpc, address_v6, all_in, group_id, ip, mac, on_a_machine, rule, tap, tcp_in};
use weft_model::{Direction, IpProtocol, ROUTER_V6, RulePeer, RulePorts};
use weft_network::{Namespace, add_tap, observe, tap_up};

const PATIENCE: Duration = Duration::from_millis(1500);

fn serve(namespace: &Namespace, at: Ipv6Addr, port: u16) {
    let listener = namespace.enter(|| TcpListener::bind((at, port)).unwrap()).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
}

fn connects(from: &Namespace, to: Ipv6Addr, port: u16) -> bool {
    let to = SocketAddr::from((to, port));
    from.enter(|| TcpStream::connect_timeout(&to, PATIENCE).is_ok()).unwrap()
}

/// Whether `to`, on `eth0` if it is link-local, answers an echo request.
fn pings(from: &Namespace, to: Ipv6Addr) -> bool {
    let open = || {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6);
        (socket.unwrap(), if_nametoindex("eth0").unwrap())
    };
    let (socket, index) = from.enter(open).unwrap();
    // The kernel fills in the checksum (RFC 3542, 3.1).
    let request = [128, 0, 0, 0, 0x57, 0x45, 0, 0];
    let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, index));
    if sendto(socket.as_raw_fd(), &request, &to, MsgFlags::empty()).is_err() {
        return false;
    }
    let deadline = Instant::now() + PATIENCE;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, u16::try_from(left.as_millis()).unwrap()).unwrap() == 0 {
            return false;
        }
        let mut message = [0; 128];
        let length = nix::unistd::read(&socket, &mut message).unwrap();
        if length >= 6 && [message[0], message[4], message[5]] == [129, 0x57, 0x45] {
            return true;
        }
    }
    false
}

fn any(peer: RulePeer) -> weft_model::RuleSpec {
    rule(Direction::Ingress, IpProtocol::All, RulePorts::Any, peer)
}

/// The packets that the rule called `label` has counted.
fn dropped(vpc: &Vpc, label: &str) -> u64 {
    let list =
        || Command::new("nft").args(["list", "chain", "inet", "weft", "sources_v6"]).output();
    let listing = vpc.namespace.enter(list).unwrap().unwrap().stdout;
    counted(&String::from_utf8(listing).unwrap(), &format!("\"{label}"))
}

/// An ICMPv6 message from `source`, with a checksum that is right.
fn icmp(n: u8, source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    let ends = [source.octets(), to.octets()].concat();
    let pseudo = [&ends[..], &[0, 0, length[0], length[1], 0, 0, 0, 58], message].concat();
    let mut message = message.to_vec();
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let header = [0x60, 0, 0, 0, length[0], length[1], 58, 255];
    let packet = [&header[..], &ends, &message].concat();
    let [_, rest @ ..] = mac(n).octets();
    let router: [u8; 6] = [&[0xfe], &rest[..]].concat().try_into().unwrap();
    ethernet(router, mac(n), 0x86dd, &packet)
}

/// A neighbour advertisement or solicitation for `target`.
fn neighbour(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0x20, 0, 0, 0], &target.octets()[..]].concat()
}

async fn two_guests(vpc: &mut Vpc) -> (Guest, Guest) {
    vpc.rules(1, &[], true).await;
    vpc.rules(2, &[], true).await;
    (vpc.launch(10, &[1]).await, vpc.launch(11, &[2]).await)
}

#[test]
fn ipv6_passes_between_guests_where_their_groups_say_so() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await.dual_stack(1).await;
        let (web, client) = two_guests(&mut vpc).await;
        serve(&web.namespace, address_v6(10), 80);
        serve(&web.namespace, address_v6(10), 22);
        assert!(!connects(&client.namespace, address_v6(10), 80), "default deny");
        vpc.rules(1, &[tcp_in(80, RulePeer::Group(group_id(2)))], true).await;
        assert!(connects(&client.namespace, address_v6(10), 80), "allowed as a member");
        assert!(!connects(&client.namespace, address_v6(10), 22), "another port");
        assert!(!pings(&client.namespace, address_v6(10)), "another protocol");
        vpc.rules(1, &[any(RulePeer::Group(group_id(2)))], true).await;
        assert!(pings(&client.namespace, address_v6(10)));
        assert!(!pings(&web.namespace, address_v6(11)), "not the other way round");
        vpc.rules(2, &[], false).await;
        assert!(!connects(&client.namespace, address_v6(10), 80), "egress is denied");

        assert!(pings(&client.namespace, ROUTER_V6), "the router answers");
        let nobody = Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0, 0, 0x99);
        assert!(!connects(&client.namespace, nobody, 80));
        vpc.rules(1, &[all_in()], true).await;
        assert!(
            !connects(&client.namespace, address_v6(10), 80),
            "IPv4's everything is not IPv6's"
        );
    });
}

#[test]
fn a_guest_sends_ipv6_only_as_itself() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await.dual_stack(1).await;
        let (victim, liar) = two_guests(&mut vpc).await;
        vpc.rules(1, &[any(RulePeer::Group(group_id(2)))], true).await;
        let receiver =
            victim.namespace.enter(|| UdpSocket::bind((address_v6(10), 999)).unwrap()).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let send = |source: Ipv6Addr| {
            let socket = liar.namespace.enter(|| UdpSocket::bind((source, 0)).unwrap()).unwrap();
            socket.send_to(b"hello", (address_v6(10), 999)).unwrap();
            receiver.recv_from(&mut [0; 16]).is_ok()
        };
        assert!(send(address_v6(11)));
        let before = dropped(&vpc, "denied");
        liar.ip("-6 addr add fd00:1:2:3::12/128 dev lo nodad");
        assert!(!send(address_v6(0x12)), "another address");
        liar.ip("link set eth0 address 02:00:00:00:00:77");
        assert!(!send(address_v6(11)), "another MAC");
        assert!(dropped(&vpc, "denied") > before);
    });
}

#[test]
fn claims_of_a_guest_to_be_somebody_else_are_dropped_and_counted() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await.dual_stack(1).await;
        let (_victim, liar) = two_guests(&mut vpc).await;
        let link_local: Ipv6Addr = "fe80::ff:fe00:b".parse().unwrap();
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let advert = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        let redirect = [&[137, 0, 0, 0, 0, 0, 0, 0], &[0; 32][..]].concat();
        let (ns, na) = (135, 136);
        let stranger: Ipv6Addr = "fe80::1234".parse().unwrap();
        let inject = |source, to, message: &[u8]| liar.inject(&icmp(11, source, to, message));
        #[rustfmt::skip]
        let cases = [
            ("router claims",    "advertises itself as a router", link_local, all, advert.to_vec()),
            ("router claims",    "redirects others",       link_local, address_v6(10), redirect),
            ("router address", "is the router",          link_local, all, neighbour(na, ROUTER_V6)),
            ("neighbour claims", "is another guest",       link_local, all, neighbour(na, address_v6(10))),
            ("neighbour claims", "is another, to the router", address_v6(11), ROUTER_V6, neighbour(na, address_v6(10))),
            ("for the agent",    "asks for a router",      link_local, all, vec![133, 0, 0, 0, 0, 0, 0, 0]),
            ("for the agent",    "listens to multicast",   link_local, all, vec![143, 0, 0, 0, 0, 0, 0, 0]),
            ("denied",           "solicits as another",    address_v6(10), ROUTER_V6, neighbour(ns, ROUTER_V6)),
            ("denied",           "pings as a stranger",    stranger, ROUTER_V6, vec![128, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (label, what, source, to, message) in cases {
            let before = dropped(&vpc, label);
            inject(source, to, &message);
            std::thread::sleep(Duration::from_millis(50));
            let more = dropped(&vpc, label) - before;
            // The guest's own kernel asks for routers and listens too, when it likes.
            let is_its_own = label == "for the agent";
            assert!(more == 1 || is_its_own && more > 1, "{what}: {more}");
        }
        // Solicitations from addresses that we cannot know are few.
        let before = dropped(&vpc, "denied");
        for n in 0..100 {
            let stranger = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, n);
            inject(stranger, ROUTER_V6, &neighbour(ns, ROUTER_V6));
        }
        std::thread::sleep(Duration::from_millis(100));
        assert!(dropped(&vpc, "denied") >= before + 80, "{before}");
        assert!(pings(&liar.namespace, ROUTER_V6), "and itself it may ask");
    });
}

#[test]
fn other_vpcs_do_not_reach_guests_and_the_host_only_through_their_groups() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await.dual_stack(1).await;
        let mut other = machine.vpc(2, false).await.dual_stack(2).await;
        machine.nat(&[&vpc, &other]).await;
        let (web, _) = two_guests(&mut vpc).await;
        serve(&web.namespace, address_v6(10), 80);
        vpc.rules(1, &[tcp_in(80, RulePeer::Group(group_id(1)))], true).await;
        assert!(!connects(&machine.agent, address_v6(10), 80), "closed from outside");
        other.rules(1, &[], true).await;
        let stranger = other.launch(20, &[1]).await;
        ip(&stranger.namespace, "-6 route add fd00:1:2:3::a/128 via fe80::1 dev eth0");
        assert!(!connects(&stranger.namespace, address_v6(10), 80), "the same range elsewhere");
        // The default VPC's range has a route outside; the other's has none.
        let route = || Command::new("ip").args(["-6", "route", "show", "proto", "201"]).output();
        let routes = machine.agent.enter(route).unwrap().unwrap().stdout;
        let routes = String::from_utf8(routes).unwrap();
        assert_eq!(routes.matches("fd00:1:2::/56 via fd00:ffff:0:1::2").count(), 1, "{routes}");
        assert!(!routes.contains("fd00:ffff:0:2::2"), "{routes}");
    });
}

#[test]
fn what_is_made_is_observed_and_what_is_gone_is_made_again() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await.dual_stack(1).await;
        let (_web, _client) = two_guests(&mut vpc).await;
        let wanted = vpc.network.interfaces[&tap(10)].clone();
        let seen = observe(&vpc.agent, &vpc.namespace).await.unwrap();
        assert!(seen.base_matches(&vpc.network), "{seen:?}");
        assert!(seen.uplink_matches(&vpc.network), "{seen:?}");
        assert!(seen.taps[&tap(10)].is_up_for(&wanted, None), "{seen:?}");

        ip(&vpc.namespace, "-6 addr del fe80::1/64 dev tap10");
        ip(&vpc.namespace, "-6 neigh del fd00:1:2:3::b dev tap11");
        ip(&vpc.namespace, "-6 route del unreachable fd00:1:2::/56");
        ip(&vpc.agent, "-6 route del fd00:1:2::/56");
        let seen = observe(&vpc.agent, &vpc.namespace).await.unwrap();
        assert!(!seen.base_matches(&vpc.network));
        assert!(!seen.uplink_matches(&vpc.network));
        for n in [10, 11] {
            let wanted = &vpc.network.interfaces[&tap(n)];
            assert!(!seen.taps[&tap(n)].is_up_for(wanted, None), "{n}: {seen:?}");
            add_tap(&vpc.namespace, &tap(n), wanted).await.unwrap();
            tap_up(&vpc.namespace, &tap(n), wanted, None).await.unwrap();
        }
        weft_network::ensure_base(&vpc.namespace, &vpc.network).await.unwrap();
        vpc.ensure_uplink().await;
        let seen = observe(&vpc.agent, &vpc.namespace).await.unwrap();
        assert!(seen.base_matches(&vpc.network) && seen.uplink_matches(&vpc.network), "{seen:?}");
        for n in [10, 11] {
            assert!(seen.taps[&tap(n)].is_up_for(&vpc.network.interfaces[&tap(n)], None));
        }
    });
}

#[test]
fn ipv6_leaves_the_host_behind_its_address_where_the_host_forwards() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, false).await.dual_stack(1).await;
        machine.nat(&[&vpc]).await;
        let internet = machine.internet();
        ip(&machine.agent, "-6 addr add 2001:db8::1/64 dev wan0 nodad");
        ip(&internet, "-6 addr add 2001:db8::9/64 dev wan1 nodad");
        let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
        let listener = internet.enter(|| TcpListener::bind((far, 80)).unwrap()).unwrap();
        let (guest, _) = two_guests(&mut vpc).await;
        assert!(!connects(&guest.namespace, far, 80), "the host does not forward IPv6 by itself");
        let forward = || std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        machine.agent.enter(forward).unwrap();
        assert!(connects(&guest.namespace, far, 80));
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), "2001:db8::1", "as the host");
    });
}
