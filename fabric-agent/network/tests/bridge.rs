//! A VPC that is a bridge, joined to the operator's: what reaches whom, with real frames.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use support::frame::{BROADCAST, Watch, arp, counted, ethernet, udp};
use support::guest::{connect, echoes, serve};
use support::{Vpc, address, all_in, cidr, group_id, ip, mac, on_a_machine, tcp_in};
use weft_model::{Bridge, RulePeer};
use weft_network::Namespace;

const IP: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const IPV6: u16 = 0x86dd;
/// 10.0.0.1, the LAN's router.
const ROUTER: u8 = 1;
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

fn nft(namespace: &Namespace, command: &str) -> String {
    let output = namespace.enter(|| Command::new("nft").arg(command).output()).unwrap().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Frames that a rule of the bridge's table dropped; it is known by its comment.
fn dropped(vpc: &Vpc, chain: &str, label: &str) -> u64 {
    let listing = nft(&vpc.namespace, &format!("list chain bridge weft {chain}"));
    counted(&listing, &format!("comment \"{label} "))
}

#[test]
fn groups_hold_between_a_guest_and_the_office() {
    on_a_machine(|machine| async move {
        let office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[], true).await;
        let guest = vpc.launch(10, &[1]).await;
        guest.serve(80);
        guest.serve(22);
        serve(&office, 7070);
        assert!(connect(&office, guest.address, 80).is_none(), "default deny");
        assert!(guest.connects(address(ROUTER), 7070), "out, and its answers");

        vpc.rules(1, &[tcp_in(80, cidr("10.0.0.1/32"))], true).await;
        let (mut flow, seen_from) = connect(&office, guest.address, 80).unwrap();
        assert_eq!(seen_from, address(ROUTER), "as itself");
        assert!(connect(&office, guest.address, 22).is_none(), "another port");

        vpc.rules(1, &[], false).await;
        assert!(connect(&office, guest.address, 80).is_none(), "a new connection");
        assert!(echoes(&mut flow), "the established one");
        assert!(!guest.connects(address(ROUTER), 7070), "egress is denied");
        vpc.nft.replace(&vpc.network.firewall).await.unwrap();
        assert!(echoes(&mut flow), "also when the tables are replaced");
    });
}

#[test]
fn guests_of_one_bridge_meet_only_by_their_groups() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.bridge_vpc(1, None).await;
        vpc.rules(1, &[], true).await;
        vpc.rules(2, &[], true).await;
        let (web, client) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[2]).await);
        web.serve(80);
        assert!(!client.connects(web.address, 80), "default deny");
        vpc.rules(1, &[tcp_in(80, RulePeer::Group(group_id(2)))], true).await;
        assert!(client.connects(web.address, 80), "allowed as a member");
        vpc.rules(3, &[], true).await;
        vpc.join(11, &[3]).await;
        assert!(!client.connects(web.address, 80), "no longer a member");
        // What the agent itself asks passes beside the groups, as its probes do.
        assert!(connect(&vpc.namespace, web.address, 80).is_some());
    });
}

#[test]
fn a_guest_sends_only_as_itself() {
    on_a_machine(|machine| async move {
        let office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[all_in()], true).await;
        let (liar, victim) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        let (own, other) = (mac(10), mac(11));
        let to = |last| (address(last), 9);
        let datagram = |from: u8| udp((address(from), 9), to(ROUTER), b"x");
        let claim = |mac, from: u8| arp(mac, address(from), address(ROUTER));
        let tagged = [&[0, 5, 8, 0][..], &datagram(10)].concat();
        let offer = udp((address(10), 67), (Ipv4Addr::BROADCAST, 68), &[2; 240]);
        #[rustfmt::skip]
        let cases = [
            ("its own packet",           ethernet(BROADCAST, own, IP, &datagram(10)), true),
            ("another address",          ethernet(BROADCAST, own, IP, &datagram(12)), false),
            ("its neighbour's address",  ethernet(BROADCAST, own, IP, &datagram(11)), false),
            ("the agent's address",      ethernet(BROADCAST, own, IP, &datagram(250)), false),
            ("another MAC",              ethernet(BROADCAST, other, IP, &datagram(10)), false),
            ("its own question",         ethernet(BROADCAST, own, ARP, &claim(own, 10)), true),
            ("a claim to an address",    ethernet(BROADCAST, own, ARP, &claim(own, 11)), false),
            ("a claim for another MAC",  ethernet(BROADCAST, own, ARP, &claim(other, 10)), false),
            ("a claim by another MAC",   ethernet(BROADCAST, other, ARP, &claim(own, 10)), false),
            ("a question about conflicts", ethernet(BROADCAST, own, ARP, &arp(own, Ipv4Addr::UNSPECIFIED, address(10))), true),
            ("a packet in a VLAN",       ethernet(BROADCAST, own, VLAN, &tagged), false),
            ("IPv6",                     ethernet(BROADCAST, own, IPV6, &[0x60; 60]), false),
            ("a bridge's own protocol",  ethernet([1, 0x80, 0xc2, 0, 0, 0], own, 0x27, &[0x42; 40]), false),
            ("another protocol",         ethernet(BROADCAST, own, 0x88cc, &[0; 40]), false),
            ("a DHCP server's answer",   ethernet(BROADCAST, own, IP, &offer), false),
        ];
        for (name, frame, arrives) in cases {
            let source = [own, other].map(|mac| mac.to_string()).join(", ");
            let watch = Watch::new(&office, "lan", &format!("ether saddr {{ {source} }}"));
            let denied =
                || dropped(&vpc, "frames_in", "denied") + dropped(&vpc, "frames_in", "dhcp-server");
            let before = denied();
            liar.inject(&frame);
            assert_eq!(watch.count(u64::from(arrives)), u64::from(arrives), "{name}");
            // At least: the link itself may say something meanwhile.
            assert!(arrives || denied() > before, "{name} is counted");
        }
        drop(victim);
    });
}

#[test]
fn nobody_in_the_office_sends_as_a_guest() {
    on_a_machine(|machine| async move {
        let office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[all_in()], true).await;
        let (guest, other) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        let receiver = guest.namespace.enter(|| UdpSocket::bind("0.0.0.0:9")).unwrap().unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        let arrives = |from: Ipv4Addr| {
            let socket = office.enter(|| UdpSocket::bind((from, 0))).unwrap().unwrap();
            socket.send_to(b"x", (guest.address, 9)).unwrap();
            receiver.recv_from(&mut [0; 9]).is_ok()
        };
        assert!(arrives(address(ROUTER)));
        ip(&office, "addr add 10.0.0.11/32 dev lo");
        assert!(!arrives(address(11)), "another guest's address");
        ip(&office, "addr add 10.0.0.250/32 dev lo");
        assert!(!arrives(address(250)), "the agent's address");
        assert_eq!(dropped(&vpc, "frames_outside", "forged"), 2);
        ip(&office, "addr del 10.0.0.11/32 dev lo");
        ip(&office, &format!("link set lan address {}", mac(11)));
        assert!(!arrives(address(ROUTER)), "another guest's MAC");
        assert!(dropped(&vpc, "frames_outside", "forged-mac") > 0);
        drop(other);
    });
}

/// As the agent's services will have it: an address on loopback, and a rule for guests.
fn open(vpc: &Vpc, rule: &str) {
    ip(&vpc.namespace, "addr replace 169.254.169.254/32 dev lo");
    nft(&vpc.namespace, &format!("insert rule inet weft base_router {rule} meta mark 1 accept"));
}

#[test]
fn a_guest_finds_the_agents_services_whatever_its_router_is() {
    on_a_machine(|machine| async move {
        let office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[], true).await;
        let guest = vpc.launch(10, &[1]).await;
        open(&vpc, "tcp dport 80");
        serve(&vpc.namespace, 80);
        let watch = Watch::new(&office, "lan", "ip daddr 169.254.169.254");
        let (_, seen_from) = connect(&guest.namespace, METADATA, 80).unwrap();
        assert_eq!(seen_from, guest.address, "by its address it is known");
        // As if it were on the same link: the question stays inside as well.
        guest.ip("route add 169.254.169.254/32 dev eth0");
        assert!(guest.connects(METADATA, 80));
        assert_eq!(watch.count(1), 0, "nothing of it leaves");

        ip(&office, "route add 169.254.169.254/32 via 10.0.0.250");
        assert!(connect(&office, METADATA, 80).is_none(), "not for the office");
        assert!(connect(&office, address(250), 80).is_none());
    });
}

#[test]
fn dhcp_is_between_a_guest_and_us() {
    on_a_machine(|machine| async move {
        let office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[all_in()], true).await;
        let (guest, other) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        open(&vpc, "udp dport 67");
        let server = vpc.namespace.enter(|| UdpSocket::bind("0.0.0.0:67")).unwrap().unwrap();
        server.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let in_office = Watch::new(&office, "lan", "udp dport { 67, 68 }");
        let at_other = Watch::new(&other.namespace, "eth0", "udp dport { 67, 68 }");
        for from in [Ipv4Addr::UNSPECIFIED, guest.address] {
            let question = udp((from, 68), (Ipv4Addr::BROADCAST, 67), &[1; 240]);
            guest.inject(&ethernet(BROADCAST, mac(10), IP, &question));
            let (length, seen_from) = server.recv_from(&mut [0; 300]).unwrap();
            assert_eq!((length, seen_from.ip()), (240, from.into()));
        }
        assert_eq!((in_office.count(1), at_other.count(1)), (0, 0));
        // Answers come from us alone, and leave for nobody else.
        let at_guest = Watch::new(&guest.namespace, "eth0", "udp dport { 67, 68 }");
        let rogue = office.enter(|| UdpSocket::bind("0.0.0.0:67")).unwrap().unwrap();
        rogue.set_broadcast(true).unwrap();
        ip(&office, "route add 255.255.255.255/32 dev lan");
        rogue.send_to(&[2; 240], "255.255.255.255:68").unwrap();
        assert_eq!(at_guest.count(1), 0);
        assert_eq!(dropped(&vpc, "frames_outside", "dhcp"), 1);
        // A broadcast is heard by its sender, too: counted anew.
        let in_office = Watch::new(&office, "lan", "udp dport { 67, 68 }");
        server.send_to(&[2; 240], (guest.address, 68)).unwrap();
        assert_eq!(at_guest.count(1), 1);
        assert_eq!((in_office.count(1), at_other.count(1)), (0, 0));
    });
}

#[test]
fn a_guest_gets_what_is_for_its_address_and_no_more() {
    on_a_machine(|machine| async move {
        let office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[all_in()], true).await;
        let (a, b) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        let at_b = Watch::new(&b.namespace, "eth0", "ether type ip");
        // For b's MAC, but with a's or nobody's address inside; and for everybody.
        for (to, last) in
            [(mac(11).octets(), 12), (mac(11).octets(), 10), (BROADCAST, 10), (BROADCAST, 255)]
        {
            let packet = udp((address(10), 9), (address(last), 9), b"x");
            a.inject(&ethernet(to, mac(10), IP, &packet));
        }
        assert_eq!(at_b.count(1), 0);
        let packet = udp((address(10), 9), (address(11), 9), b"x");
        a.inject(&ethernet(mac(11).octets(), mac(10), IP, &packet));
        assert_eq!(at_b.count(1), 1);
        drop(office);
    });
}

#[test]
fn without_the_bridges_own_table_nothing_passes() {
    on_a_machine(|machine| async move {
        let office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[all_in()], true).await;
        let guest = vpc.launch(10, &[1]).await;
        serve(&office, 7070);
        assert!(guest.connects(address(ROUTER), 7070));
        nft(&vpc.namespace, "delete table bridge weft");
        assert!(!guest.connects(address(ROUTER), 7070), "closed, not open");
        let seen = vpc.nft.observe(true).await.unwrap().unwrap();
        let commands = seen.changes("weft", &vpc.network.firewall);
        vpc.nft.apply(&commands).await.unwrap();
        assert!(guest.connects(address(ROUTER), 7070));
    });
}

#[test]
fn two_bridges_on_one_office_network_are_told_apart() {
    on_a_machine(|machine| async move {
        let _office = machine.office();
        let mut one = machine.bridge_vpc(1, Some("office")).await;
        let mut two = machine.bridge_vpc(2, Some("office")).await;
        assert_ne!(Bridge::mac(&one.network.vpc_id), Bridge::mac(&two.network.vpc_id));
        one.rules(1, &[tcp_in(80, cidr("10.0.0.12/32"))], true).await;
        two.rules(1, &[], true).await;
        let (a, b) = (one.launch(10, &[1]).await, two.launch(12, &[1]).await);
        a.serve(80);
        b.serve(80);
        assert!(b.connects(a.address, 80), "as any machine of the office");
        assert!(!a.connects(b.address, 80), "both have groups of their own");
    });
}

#[test]
fn a_listener_of_the_agent_is_not_open_to_guests_by_itself() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.bridge_vpc(1, None).await;
        vpc.rules(1, &[all_in()], true).await;
        let guest = vpc.launch(10, &[1]).await;
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
        let _listener = vpc.namespace.enter(listen).unwrap();
        // A bridge without another port takes a moment to notice its first one.
        assert!((0..5).any(|_| guest.pings(address(250))));
        assert!(!guest.connects(address(250), 80));
    });
}
