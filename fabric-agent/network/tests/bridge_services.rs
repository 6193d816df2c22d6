//! DHCP, metadata and DNS, asked for at a bridge's port: the real services, sockets, frames.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use support::frame::{BROADCAST, Watch, ethernet, udp};
use support::guest::serve_datagrams;
use support::services::{AGENT, DNS, METADATA, client, start};
use support::{address, mac, on_a_machine};

const IP: u16 = 0x0800;
/// Magic cookie and "discover", a request's end (RFC 2131, 3; RFC 2132, 9.6).
const DISCOVER: [u8; 8] = [99, 130, 83, 99, 53, 1, 1, 255];

fn request(head: &'static str, to: Ipv4Addr) -> impl FnOnce() -> Option<String> + Send {
    move || {
        let deadline = Duration::from_millis(1500);
        let mut stream = TcpStream::connect_timeout(&(to, 80).into(), deadline).ok()?;
        stream.set_read_timeout(Some(deadline)).unwrap();
        write!(stream, "{head}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Some(answer)
    }
}

const TOKEN: &str =
    "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token-ttl-seconds: 60";

#[test]
fn a_guest_at_a_port_is_given_its_own_address_by_its_mac() {
    on_a_machine(|machine| async move {
        let office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[], true).await;
        let (guest, other) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        let _services = start(&machine, &vpc);
        let in_office = Watch::new(&office, "lan", "udp dport { 67, 68 }");
        for (asks, last) in [(&guest, 10), (&other, 11)] {
            let socket = asks.namespace.enter(|| UdpSocket::bind("0.0.0.0:68")).unwrap().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            let mut discover = vec![1, 1, 6, 0, 0, 0, 0, last];
            discover.resize(28, 0);
            discover.extend(mac(last).octets());
            discover.resize(236, 0);
            discover.extend(DISCOVER);
            let from = (Ipv4Addr::UNSPECIFIED, 68);
            let packet = udp(from, (Ipv4Addr::BROADCAST, 67), &discover);
            asks.inject(&ethernet(BROADCAST, mac(last), IP, &packet));
            let receive = move || {
                let mut answer = [0; 600];
                let (_, from) = socket.recv_from(&mut answer).unwrap();
                (from.ip(), answer[7], Ipv4Addr::from([16, 17, 18, 19].map(|n: usize| answer[n])))
            };
            let offered = tokio::task::spawn_blocking(receive).await.unwrap();
            assert_eq!(offered, (AGENT.into(), last, address(last)));
        }
        assert_eq!(in_office.count(1), 0, "the office hears nothing of it");
    });
}

#[test]
fn metadata_answer_through_the_bridge_and_no_further_than_the_guest() {
    on_a_machine(|machine| async move {
        let office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        // Not even its own group lets it go anywhere.
        vpc.rules(1, &[], false).await;
        let guest = vpc.launch(10, &[1]).await;
        let _services = start(&machine, &vpc);
        let list = "GET /latest/meta-data/ HTTP/1.1\r\nHost: x";
        let refused = client(&guest.namespace, request(list, METADATA)).await.unwrap();
        assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
        // A token that reaches further than the next machine; the handshake may.
        let further = "ip saddr 169.254.169.254 tcp flags & psh == psh ip ttl != 1";
        let watch = Watch::new(&guest.namespace, "eth0", further);
        let answer = client(&guest.namespace, request(TOKEN, METADATA)).await.unwrap();
        assert_eq!(watch.count(1), 0, "a token goes one hop far");
        let token = answer.lines().last().unwrap().to_owned();
        let path = "GET /latest/meta-data/local-ipv4 HTTP/1.1\r\nHost: x\r\n";
        let ask: &'static str = format!("{path}X-aws-ec2-metadata-token: {token}").leak();
        let own = client(&guest.namespace, request(ask, METADATA)).await.unwrap();
        assert_eq!(own.lines().last(), Some("10.0.0.10"), "{own}");

        // With another guest's token, and from the office: nothing.
        let other = vpc.launch(11, &[1]).await;
        let stolen = client(&other.namespace, request(ask, METADATA)).await.unwrap();
        assert!(stolen.starts_with("HTTP/1.1 401 "), "{stolen}");
        support::ip(&office, "route add 169.254.169.254/32 via 10.0.0.250");
        assert_eq!(client(&office, request(TOKEN, METADATA)).await, None);
    });
}

#[test]
fn names_are_asked_for_through_the_bridge() {
    on_a_machine(|machine| async move {
        let _office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[], false).await;
        let guest = vpc.launch(10, &[1]).await;
        let _services = start(&machine, &vpc);
        // The host's resolver: says yes to everything by setting the bit of an answer.
        serve_datagrams(&machine.agent, (Ipv4Addr::LOCALHOST, 53), |question| {
            let mut answer = question.to_vec();
            answer[2] |= 0x80;
            answer
        });
        for server in [DNS, AGENT] {
            let ask = move || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                // "weft. IN A", recursion desired (RFC 1035, 4.1).
                let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04weft\0\0\x01\0\x01";
                socket.send_to(question, (server, 53)).unwrap();
                let mut answer = [0; 100];
                let (length, from) = socket
                    .recv_from(&mut answer)
                    .unwrap_or_else(|error| panic!("{server}: {error}"));
                (from.ip(), answer[..length].to_vec())
            };
            let (from, answer) = client(&guest.namespace, ask).await;
            assert_eq!(from, server);
            assert_eq!(answer[..3], [0x12, 0x34, 0x81], "{server} gave {answer:?}");
        }
    });
}

#[test]
fn the_vpcs_own_names_are_answered_over_udp_and_tcp_and_asked_of_nobody_else() {
    on_a_machine(|machine| async move {
        let _office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[], false).await;
        let guest = vpc.launch(10, &[1]).await;
        let _services = start(&machine, &vpc);
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
        let resolver = machine.agent.enter(bind).unwrap();
        resolver.set_nonblocking(true).unwrap();
        // "guest11.default.weft.internal. IN A" and "11.0.0.10.in-addr.arpa. IN PTR".
        let forward = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07guest11\x07default\x04weft\x08internal\0\0\x01\0\x01";
        let reverse = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x0211\x010\x010\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01";
        let ask = || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            let mut answers = Vec::new();
            for question in [forward.as_slice(), reverse.as_slice()] {
                socket.send_to(question, (DNS, 53)).unwrap();
                let mut answer = [0; 512];
                let length = socket.recv(&mut answer).unwrap();
                answers.push(answer[..length].to_vec());
                let mut stream = TcpStream::connect((DNS, 53)).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                let length = u16::try_from(question.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length, question].concat()).unwrap();
                stream.read_exact(&mut answer[..2]).unwrap();
                let length = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
                stream.read_exact(&mut answer[..length]).unwrap();
                answers.push(answer[..length].to_vec());
            }
            answers
        };
        let answers = client(&guest.namespace, ask).await;
        for answer in &answers {
            // An authoritative answer with one record (RFC 1035, 4.1.1).
            assert_eq!(answer[..8], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1], "{answer:?}");
        }
        assert_eq!(answers[0], answers[1]);
        assert!(answers[0].ends_with(&address(11).octets()), "{answers:?}");
        let name = b"\x07guest11\x07default\x04weft\x08internal\0";
        assert!(answers[2].ends_with(name), "{answers:?}");
        assert!(resolver.recv(&mut [0; 512]).is_err(), "the host's resolver was asked");
    });
}

#[test]
fn services_that_have_stopped_leave_their_addresses_to_the_next_ones() {
    on_a_machine(|machine| async move {
        let _office = machine.office();
        let mut vpc = machine.bridge_vpc(1, Some("office")).await;
        vpc.rules(1, &[], false).await;
        let guest = vpc.launch(10, &[1]).await;
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
        let silent = machine.agent.enter(bind).unwrap();
        silent.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        for _ in 0..3 {
            let services = start(&machine, &vpc);
            let ask = || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04weft\0\0\x01\0\x01";
                socket.send_to(question, (DNS, 53)).unwrap();
            };
            client(&guest.namespace, ask).await;
            // The question is under way, and nobody ever answers it.
            let asked = silent.try_clone().unwrap();
            let heard = tokio::task::spawn_blocking(move || asked.recv(&mut [0; 100]));
            assert!(heard.await.unwrap().unwrap() > 0);
            services.stop().await;
        }
    });
}
