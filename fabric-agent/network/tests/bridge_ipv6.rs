//! IPv6 on a VPC's bridge that is joined to the operator's: real frames both ways.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use support::frame::{Watch, counted, ethernet};
use support::guest::{Guest, checksum, echoes};
use support::{Machine, Vpc, address_v6, cidr, group_id, ip, mac, on_a_machine, rule, tcp_in};
use weft_model::{Direction, IpProtocol, MacAddr, RulePeer, RulePorts, RuleSpec};
use weft_network::Namespace;

const IPV6: u16 = 0x86dd;
/// The LAN's router.
const ROUTER: u8 = 1;
/// The flow label of frames that no kernel made.
const OURS: u8 = 0x42;
const PATIENCE: Duration = Duration::from_millis(1500);
/// All hosts and all routers of a link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

/// The office with IPv6: its machine is fd00:1:2:3::1.
fn office(machine: &Machine) -> Namespace {
    let office = machine.office();
    ip(&office, "-6 addr add fd00:1:2:3::1/64 dev lan nodad");
    office
}

async fn dual_stack(machine: &Machine, to: Option<&str>) -> Vpc {
    let mut vpc = machine.bridge_vpc(1, to).await;
    let range = Some("fd00:1:2:3::/64".parse().unwrap());
    vpc.firewall(|firewall| firewall.ipv6 = range).await;
    vpc
}

async fn launch(vpc: &mut Vpc, n: u8, groups: &[u8]) -> Guest {
    let guest = vpc.launch(n, groups).await;
    guest.ip(&format!("-6 addr add {}/64 dev eth0 nodad", address_v6(n)));
    guest
}

fn all_in() -> RuleSpec {
    rule(Direction::Ingress, IpProtocol::All, RulePorts::Any, cidr("::/0"))
}

/// Echoes.
fn serve(namespace: &Namespace, port: u16) {
    let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    let listener = namespace.enter(listen).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
}

fn connect(from: &Namespace, n: u8, port: u16) -> Option<TcpStream> {
    let to = SocketAddr::from((address_v6(n), port));
    let stream = from.enter(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap().ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Some(stream)
}

fn dropped(vpc: &Vpc, chain: &str, label: &str) -> u64 {
    let list =
        || Command::new("nft").args(["list", "chain", "bridge", "weft", chain]).output().unwrap();
    let listing = String::from_utf8(vpc.namespace.enter(list).unwrap().stdout).unwrap();
    counted(&listing, &format!("comment \"{label} "))
}

fn link_local(mac: MacAddr) -> Ipv6Addr {
    mac.address_in(LINK_LOCAL)
}

fn packet(next: u8, source: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let header = [0x60, 0, 0, OURS, length[0], length[1], next, 255];
    [&header[..], &source.octets(), &to.octets(), payload].concat()
}

/// With a checksum that is right.
fn checked(next: u8, source: Ipv6Addr, to: Ipv6Addr, message: &[u8], at: usize) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    let ends = [source.octets(), to.octets()].concat();
    let pseudo = [&ends[..], &[0, 0, length[0], length[1], 0, 0, 0, next], message].concat();
    let mut message = message.to_vec();
    message[at..at + 2].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    message
}

fn icmp(source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    packet(58, source, to, &checked(58, source, to, message, 2))
}

fn udp(source: (Ipv6Addr, u16), to: (Ipv6Addr, u16)) -> Vec<u8> {
    let fields = [source.1, to.1, 12, 0].map(u16::to_be_bytes).concat();
    let message = [&fields[..], b"mess"].concat();
    packet(17, source.0, to.0, &checked(17, source.0, to.0, &message, 6))
}

/// A neighbour advertisement or solicitation for `target`.
fn neighbour(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0x20, 0, 0, 0], &target.octets()[..]].concat()
}

/// "I am a router, and addresses are made of fd00:1:2:3::/64" (L and A flags).
fn router_advertisement() -> Vec<u8> {
    let head = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0];
    let prefix = address_v6(0).octets();
    [&head[..], &[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 0], &prefix].concat()
}

/// Without its transport header in the first of two fragments: destination options fill that.
fn hidden(source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> [Vec<u8>; 2] {
    let message = checked(58, source, to, message, 2);
    // Next header, length, and a padding of 6 bytes (RFC 8200, 4.2 and 4.6).
    let first = [&[60, 0, 0, 1, 0, 0, 0, 7][..], &[58, 0, 1, 4, 0, 0, 0, 0]].concat();
    let second = [&[60, 0, 0, 8, 0, 0, 0, 7][..], &message].concat();
    [packet(44, source, to, &first), packet(44, source, to, &second)]
}

/// Of the group of hosts that a packet is for.
fn group_mac(to: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = to.octets();
    [0x33, 0x33, a, b, c, d]
}

fn routes(namespace: &Namespace) -> String {
    let show = || Command::new("ip").args(["-6", "route", "show", "default"]).output().unwrap();
    String::from_utf8(namespace.enter(show).unwrap().stdout).unwrap()
}

/// Sends a raw message of ICMPv6 to all hosts, out of the office.
fn say(office: &Namespace, frame: &[u8]) {
    let socket = support::guest::packet_socket(office, "lan");
    assert_eq!(nix::unistd::write(&socket, frame).unwrap(), frame.len());
}

#[test]
fn groups_hold_over_ipv6_between_a_guest_and_the_office() {
    on_a_machine(|machine| async move {
        let office = office(&machine);
        let mut vpc = dual_stack(&machine, Some("office")).await;
        vpc.rules(1, &[], true).await;
        let guest = launch(&mut vpc, 10, &[1]).await;
        for port in [80, 22] {
            serve(&guest.namespace, port);
        }
        serve(&office, 7070);
        assert!(connect(&office, 10, 80).is_none(), "default deny");
        let mut out = connect(&guest.namespace, ROUTER, 7070).expect("out");
        assert!(echoes(&mut out), "and its answers");

        vpc.rules(1, &[tcp_in(80, cidr("fd00:1:2:3::1/128"))], true).await;
        let mut flow = connect(&office, 10, 80).expect("what a rule admits");
        assert!(echoes(&mut flow));
        assert!(connect(&office, 10, 22).is_none(), "another port");

        vpc.rules(1, &[], false).await;
        assert!(connect(&office, 10, 80).is_none(), "a new connection");
        assert!(echoes(&mut flow), "the established one");
        assert!(connect(&guest.namespace, ROUTER, 7070).is_none(), "egress is denied");
        vpc.nft.replace(&vpc.network.firewall).await.unwrap();
        assert!(echoes(&mut flow), "also when the tables are replaced");
    });
}

#[test]
fn a_datagram_larger_than_a_frame_passes_where_its_first_part_may() {
    on_a_machine(|machine| async move {
        let office = office(&machine);
        let mut vpc = dual_stack(&machine, Some("office")).await;
        vpc.rules(1, &[], true).await;
        let guest = launch(&mut vpc, 10, &[1]).await;
        let bind = |namespace: &Namespace, n: u8| {
            let socket =
                namespace.enter(|| UdpSocket::bind((address_v6(n), 999))).unwrap().unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (inside, outside) = (bind(&guest.namespace, 10), bind(&office, ROUTER));
        let large = [7; 4000];
        let passes = |from: &UdpSocket, to: &UdpSocket| {
            from.send_to(&large, to.local_addr().unwrap()).unwrap();
            let mut got = [0; 5000];
            to.recv(&mut got).is_ok_and(|length| got[..length] == large)
        };
        assert!(!passes(&outside, &inside), "default deny");
        assert!(passes(&inside, &outside), "out");
        assert!(passes(&outside, &inside), "and its answer");
    });
}

#[test]
fn guests_of_one_bridge_meet_over_ipv6_only_by_their_groups() {
    on_a_machine(|machine| async move {
        let mut vpc = dual_stack(&machine, None).await;
        vpc.rules(1, &[], true).await;
        vpc.rules(2, &[], true).await;
        let web = launch(&mut vpc, 10, &[1]).await;
        let client = launch(&mut vpc, 11, &[2]).await;
        serve(&web.namespace, 80);
        assert!(connect(&client.namespace, 10, 80).is_none(), "default deny");
        vpc.rules(1, &[tcp_in(80, RulePeer::Group(group_id(2)))], true).await;
        assert!(connect(&client.namespace, 10, 80).is_some(), "allowed as a member");
        vpc.rules(2, &[], false).await;
        assert!(connect(&client.namespace, 10, 80).is_none(), "egress is denied");
    });
}

#[test]
fn a_guest_sends_ipv6_only_as_itself() {
    on_a_machine(|machine| async move {
        let office = office(&machine);
        let mut vpc = dual_stack(&machine, Some("office")).await;
        vpc.rules(1, &[all_in()], true).await;
        let liar = launch(&mut vpc, 10, &[1]).await;
        let victim = launch(&mut vpc, 11, &[1]).await;
        let (own, other) = (mac(10), mac(11));
        let (me, my_link) = (address_v6(10), link_local(own));
        let (them, nobody) = (address_v6(11), Ipv6Addr::UNSPECIFIED);
        let their_link = link_local(other);
        let router = address_v6(ROUTER);
        let datagram = |from| udp((from, 999), (router, 999));
        let say = |kind, target| icmp(me, ALL_NODES, &neighbour(kind, target));
        let detect = |target| icmp(nobody, ALL_NODES, &neighbour(135, target));
        let report = [143, 0, 0, 0, 0, 0, 0, 0];
        let source_route =
            [&[17, 0, 0, 0, 0, 0, 0, 0][..], &[3, 231, 3, 231, 0, 12, 0, 0, 0, 0, 0, 0]];
        let offer = udp((me, 547), (router, 546));
        let ask = udp((my_link, 546), (router, 547));
        let [first, second] = hidden(my_link, ALL_NODES, &router_advertisement());
        #[rustfmt::skip]
        let cases = [
            ("its own packet",                 own,   vec![datagram(me)],                                     true),
            ("its link-local address",         own,   vec![datagram(my_link)],                                false),
            ("another address of the LAN",     own,   vec![datagram(address_v6(12))],                         false),
            ("its neighbour's address",        own,   vec![datagram(them)],                                   false),
            ("its neighbour's link-local one", own,   vec![datagram(their_link)],                             false),
            ("the router's address",           own,   vec![datagram(router)],                                 false),
            ("another MAC",                    other, vec![datagram(me)],                                     false),
            ("an advertisement of its own",    own,   vec![say(136, me)],                                     true),
            ("of its own link-local one",      own,   vec![say(136, my_link)],                                true),
            ("of its neighbour's",             own,   vec![say(136, them)],                                   false),
            ("of the router's",                own,   vec![say(136, router)],                                 false),
            ("of the router's link-local one", own,   vec![say(136, "fe80::1".parse().unwrap())],             false),
            ("a question",                     own,   vec![say(135, router)],                                 true),
            ("a question by another MAC",      other, vec![say(135, router)],                                 false),
            ("a probe for its own address",    own,   vec![detect(me)],                                       true),
            ("a probe for another's",          own,   vec![detect(them)],                                     false),
            ("a router's advertisement",       own,   vec![icmp(my_link, ALL_NODES, &router_advertisement())], false),
            ("one in two fragments",           own,   vec![first, second],                                    false),
            ("a redirect",                     own,   vec![icmp(my_link, router, &[137; 40])],                false),
            ("a question for routers",         own,   vec![icmp(my_link, ALL_ROUTERS, &[133, 0, 0, 0, 0, 0, 0, 0])], true),
            ("what groups it hears",           own,   vec![icmp(my_link, ALL_ROUTERS, &report)],              true),
            ("who hears which groups",         own,   vec![icmp(my_link, ALL_NODES, &[130; 24])],             false),
            ("a routing header",               own,   vec![packet(43, me, router, &source_route.concat())],   false),
            ("a DHCPv6 server's answer",       own,   vec![offer],                                            false),
            ("a DHCPv6 client's question",     own,   vec![ask],                                              false),
        ];
        let source = [own, other].map(|mac| mac.to_string()).join(", ");
        for (name, from, packets, arrives) in cases {
            let watch = Watch::new(
                &office,
                "lan",
                &format!("ether saddr {{ {source} }} ip6 flowlabel {OURS}"),
            );
            for packet in packets {
                liar.inject(&ethernet([0x33; 6], from, IPV6, &packet));
            }
            assert_eq!(watch.count(u64::from(arrives)) > 0, arrives, "{name}");
        }
        drop(victim);
    });
}

#[test]
fn guests_hear_the_lans_router_and_no_other() {
    on_a_machine(|machine| async move {
        let office = office(&machine);
        let mut vpc = dual_stack(&machine, Some("office")).await;
        vpc.rules(1, &[], true).await;
        let guest = launch(&mut vpc, 10, &[1]).await;
        let liar = launch(&mut vpc, 11, &[1]).await;
        let advertise = |from: MacAddr| {
            let message = icmp(link_local(from), ALL_NODES, &router_advertisement());
            ethernet(group_mac(ALL_NODES), from, IPV6, &message)
        };
        let ours = format!("ip6 flowlabel {OURS}");
        let at_guest = Watch::new(&guest.namespace, "eth0", &ours);
        liar.inject(&advertise(mac(11)));
        assert_eq!(at_guest.count(1), 0, "its neighbour is none");
        let router: MacAddr = "02:00:00:00:07:01".parse().unwrap();
        say(&office, &advertise(router));
        assert_eq!(at_guest.count(1), 1);
        let deadline = Instant::now() + Duration::from_secs(5);
        let way_out = format!("default via {}", link_local(router));
        while !routes(&guest.namespace).contains(&way_out) {
            assert!(Instant::now() < deadline, "{}", routes(&guest.namespace));
            std::thread::sleep(Duration::from_millis(50));
        }
        // A redirect, and who says that it is the guest.
        let claims = [
            icmp(link_local(router), address_v6(10), &[137; 40]),
            icmp(link_local(router), ALL_NODES, &neighbour(136, address_v6(11))),
            icmp(address_v6(11), ALL_NODES, &neighbour(136, address_v6(1))),
        ];
        let at_guest = Watch::new(&guest.namespace, "eth0", &ours);
        for claim in claims {
            say(&office, &ethernet(mac(10).octets(), router, IPV6, &claim));
        }
        assert_eq!(at_guest.count(1), 0);
        let counted = ["redirect", "forged-neighbour", "forged6"];
        assert_eq!(counted.map(|label| dropped(&vpc, "frames_outside", label)), [1, 1, 1]);
    });
}

#[test]
fn a_guest_gets_what_is_for_its_addresses_and_no_more() {
    on_a_machine(|machine| async move {
        let office = office(&machine);
        let mut vpc = dual_stack(&machine, Some("office")).await;
        vpc.rules(1, &[], true).await;
        let a = launch(&mut vpc, 10, &[1]).await;
        let b = launch(&mut vpc, 11, &[1]).await;
        let solicited: Ipv6Addr = "ff02::1:ff00:b".parse().unwrap();
        // Groups do not let it in, whatever group of hosts it is sent to.
        let at_b = Watch::new(&b.namespace, "eth0", &format!("ip6 flowlabel {OURS}"));
        let groups = ["ff02::fb", "fe80::ff:fe00:b"].map(|text| text.parse().unwrap());
        for to in [solicited, ALL_NODES, address_v6(11)].into_iter().chain(groups) {
            let packet = udp((address_v6(10), 9), (to, 9));
            a.inject(&ethernet(group_mac(to), mac(10), IPV6, &packet));
            a.inject(&ethernet(mac(11).octets(), mac(10), IPV6, &packet));
        }
        assert_eq!(at_b.count(1), 0);
        let at_b = Watch::new(&b.namespace, "eth0", &format!("ip6 flowlabel {OURS}"));
        let question = icmp(address_v6(10), solicited, &neighbour(135, address_v6(11)));
        a.inject(&ethernet(group_mac(solicited), mac(10), IPV6, &question));
        assert_eq!(at_b.count(1), 1);
        drop(office);
    });
}

#[test]
fn dhcpv6_is_between_a_guest_and_us() {
    on_a_machine(|machine| async move {
        let office = office(&machine);
        let mut vpc = dual_stack(&machine, Some("office")).await;
        vpc.rules(1, &[], false).await;
        let guest = launch(&mut vpc, 10, &[1]).await;
        let services = support::services::start(&machine, &vpc);
        let in_office = Watch::new(&office, "lan", "udp dport { 546, 547 }");
        let ask = || {
            let index = if_nametoindex("eth0").unwrap();
            // It is the guest's when its kernel has probed it.
            let own = SocketAddrV6::new(link_local(mac(10)), 546, 0, index);
            let deadline = Instant::now() + Duration::from_secs(10);
            let socket = loop {
                match UdpSocket::bind(own) {
                    Ok(socket) => break socket,
                    Err(error) => assert!(Instant::now() < deadline, "{own}: {error}"),
                }
                std::thread::sleep(Duration::from_millis(100));
            };
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            // Solicit, with a client's id and an association (RFC 8415, 8 and 21).
            let message = [
                &[1, 7, 7, 7][..],
                &[0, 1, 0, 4, 0, 2, b'm', b'e'],
                &[0, 3, 0, 12, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0],
            ]
            .concat();
            let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
            let to = SocketAddrV6::new(servers, 547, 0, index);
            socket.send_to(&message, to).unwrap();
            let mut answer = [0; 1500];
            let length = socket.recv(&mut answer).ok()?;
            Some(answer[..length].to_vec())
        };
        let answer = support::services::client(&guest.namespace, ask).await;
        let answer = answer.expect("an answer");
        let own = address_v6(10).octets();
        assert!(answer.windows(16).any(|window| window == own), "{answer:?}");
        assert_eq!(in_office.count(1), 0, "nothing of it leaves");
        services.stop().await;
    });
}
