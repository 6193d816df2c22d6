//! A guest that sends garbage and floods to the services of its VPC: it gets nothing of it, it is
//! counted, and its neighbours, in its own VPC and in another one, are served as ever.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::frame::{BROADCAST, ethernet, udp};
use support::guest::Guest;
use support::services::{AGENT, DNS, METADATA, client, services, start_of};
use support::{address, mac, on_a_machine};
use weft_model::MacAddr;
use weft_services::{Refused, Services};

const IP: u16 = 0x0800;
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PATIENCE: Duration = Duration::from_secs(3);
/// Datagrams of each kind of garbage.
const MANY: u32 = 3_000;
/// How many more pages the agent may have after all that, in bytes.
const MORE_MEMORY: u64 = 64 << 20;

/// "discover" for this MAC, in a frame of the guest's own.
fn discover(guest: u8, asks: MacAddr) -> Vec<u8> {
    let mut request = vec![1, 1, 6, 0, 0, 0, 0, guest];
    request.resize(28, 0);
    request.extend(asks.octets());
    request.resize(236, 0);
    request.extend([99, 130, 83, 99, 53, 1, 1, 255]);
    let from = (Ipv4Addr::UNSPECIFIED, 68);
    let packet = udp(from, (Ipv4Addr::BROADCAST, 67), &request);
    ethernet(BROADCAST, mac(guest), IP, &packet)
}

/// What DHCP offers the guest within our patience.
async fn offered(guest: &Guest, last: u8, asks: MacAddr) -> Option<Ipv4Addr> {
    let socket = guest.namespace.enter(|| UdpSocket::bind("0.0.0.0:68")).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    for _ in 0..6 {
        guest.inject(&discover(last, asks));
        let socket = socket.try_clone().unwrap();
        let receive = move || {
            let mut answer = [0; 600];
            socket.recv(&mut answer).ok()?;
            <[u8; 4]>::try_from(&answer[16..20]).ok().map(Ipv4Addr::from)
        };
        if let Some(address) = tokio::task::spawn_blocking(receive).await.unwrap() {
            return Some(address);
        }
    }
    None
}

/// Whether the guest is given its address, a name's address and its metadata.
async fn is_served(guest: &Guest, last: u8) {
    assert_eq!(offered(guest, last, mac(last)).await, Some(address(last)), "DHCP of {last}");
    let ask = move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07guest11\x07default\x04weft\x08internal\0\0\x01\0\x01";
        let mut answer = [0; 512];
        // A question that meets a full buffer is lost, as on a wire; resolvers ask again.
        let ask = |_| {
            socket.send_to(question, (DNS, 53)).unwrap();
            socket.recv(&mut answer).ok()
        };
        let length = (0..6).find_map(ask).unwrap_or_else(|| panic!("no DNS for {last}"));
        let is_right = answer[..length].ends_with(&address(11).octets());
        assert!(is_right, "DNS of {last}: {:?}", &answer[..length]);
        let token = "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\n\
                     X-aws-ec2-metadata-token-ttl-seconds: 60\r\nConnection: close\r\n\r\n";
        let mut stream = TcpStream::connect_timeout(&(METADATA, 80).into(), PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(token.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "metadata of {last}: {answer}");
    };
    client(&guest.namespace, ask).await;
}

fn counted(services: &Services, why: Refused) -> u64 {
    let counted = services.refusals().counted();
    counted.into_iter().find(|(known, _)| *known == why).map_or(0, |(_, count)| count)
}

/// Returns when as many were refused; what is under way needs a moment.
async fn refused(services: &Services, why: Refused, at_least: u64) {
    for _ in 0..100 {
        if counted(services, why) >= at_least {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{}: {} of {at_least}", why.as_str(), counted(services, why));
}

/// Resident memory of this process, which serves, in bytes (proc_pid_statm(5), the second field).
fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn garbage_and_floods_are_counted_and_take_nothing_from_the_neighbours() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        let mut other_vpc = machine.vpc(2, false).await;
        vpc.rules(1, &[], true).await;
        other_vpc.rules(1, &[], true).await;
        let (hostile, neighbour) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        let far = other_vpc.launch(10, &[1]).await;
        let services = services(&machine, ROUTER);
        let _running = [start_of(&services, &vpc), start_of(&services, &other_vpc)];
        is_served(&neighbour, 11).await;
        let before = memory();

        // Noise to each socket.
        let noise = || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for n in 0..MANY {
                let bytes: Vec<u8> =
                    (0..n % 500).map(|i| (i.wrapping_mul(n) >> 3) as u8 | 0x80).collect();
                let _ = socket.send_to(&bytes, (DNS, 53));
            }
            let request = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no HTTP at all\r\n\r\n";
            for _ in 0..20 {
                let mut stream = TcpStream::connect((METADATA, 80)).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(request).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            }
        };
        client(&hostile.namespace, noise).await;
        for n in 0..200_u8 {
            let from = (Ipv4Addr::UNSPECIFIED, 68);
            let packet = udp(from, (Ipv4Addr::BROADCAST, 67), &vec![n | 2; n.into()]);
            hostile.inject(&ethernet(BROADCAST, mac(10), IP, &packet));
        }
        refused(&services, Refused::DhcpMalformed, 1).await;
        refused(&services, Refused::DnsMalformed, 1).await;
        refused(&services, Refused::MetadataMalformed, 20).await;
        is_served(&neighbour, 11).await;

        // Starvation: a hundred addresses for a hundred MACs, none of which is its own.
        for n in 0..100 {
            hostile.inject(&discover(10, MacAddr::from_random([9, 9, 9, 9, n])));
        }
        refused(&services, Refused::DhcpStranger, 100).await;
        let fake = MacAddr::from_random([9, 9, 9, 9, 9]);
        assert_eq!(offered(&hostile, 10, fake).await, None, "no address for a MAC of nobody");
        assert_eq!(offered(&hostile, 10, mac(11)).await, None, "nor its neighbour's");
        assert_eq!(offered(&hostile, 10, mac(10)).await, Some(address(10)));

        // Connections that say nothing, as many as it can open, held while the others ask.
        let hold = || {
            let open = |port, at| TcpStream::connect_timeout(&(at, port).into(), PATIENCE).ok();
            let metadata = (0..100).filter_map(|_| open(80, METADATA)).collect::<Vec<_>>();
            let dns = (0..100).filter_map(|_| open(53, DNS)).collect::<Vec<_>>();
            (metadata, dns)
        };
        let held = client(&hostile.namespace, hold).await;
        refused(&services, Refused::MetadataTooMany, 50).await;
        refused(&services, Refused::DnsTooMany, 20).await;
        is_served(&neighbour, 11).await;
        is_served(&far, 10).await;
        drop(held);
        is_served(&hostile, 10).await;

        let more = memory().saturating_sub(before);
        assert!(more < MORE_MEMORY, "{} MiB more", more >> 20);
    });
}

/// Names that `last` is told of as many that it asks for, each once, with little patience.
async fn names_told(guest: &Guest, questions: u32) -> u32 {
    let ask = move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07guest11\x07default\x04weft\x08internal\0\0\x01\0\x01";
        let told = (0..questions).filter(|_| {
            socket.send_to(question, (DNS, 53)).unwrap();
            socket.recv(&mut [0; 512]).is_ok()
        });
        u32::try_from(told.count()).unwrap()
    };
    client(&guest.namespace, ask).await
}

async fn a_flood_is_cut_where_it_comes_in(
    mut vpc: support::Vpc,
    services: &Services,
    family: &str,
) {
    vpc.rules(1, &[], true).await;
    let (hostile, neighbour) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
    let _running = start_of(services, &vpc);
    assert_eq!(names_told(&neighbour, 5).await, 5, "before");

    // Several sockets at once, each as fast as it can, until they are told to stop.
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..3)
        .map(|_| {
            let (stop, namespace) = (stop.clone(), hostile.namespace.clone());
            std::thread::spawn(move || {
                let socket = namespace.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let _ = socket.send_to(&[0xff; 300], (DNS, 53));
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let told = names_told(&neighbour, 40).await;
    let is_given = offered(&neighbour, 11, mac(11)).await;
    stop.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    assert!(told >= 36, "{told} of 40 names during the noise");
    assert_eq!(is_given, Some(address(11)), "DHCP during the noise");

    let list = || {
        let table = ["list", "counters", "table", family, "weft"];
        std::process::Command::new("nft").args(table).output().unwrap()
    };
    let listed = String::from_utf8(vpc.namespace.enter(list).unwrap().stdout).unwrap();
    let after = listed.split_once("asked_too_often").unwrap().1;
    let mut words = after.split_whitespace().skip_while(|word| *word != "packets");
    let dropped: u64 = words.nth(1).unwrap().parse().unwrap();
    assert!(dropped > 1000, "{dropped} were too many");
    // And nothing is held against it afterwards.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    is_served(&hostile, 10).await;
}

#[test]
fn a_guest_that_floods_the_services_loses_its_own_packets_and_nobody_elses() {
    on_a_machine(|machine| async move {
        let vpc = machine.vpc(1, true).await;
        let services = services(&machine, ROUTER);
        a_flood_is_cut_where_it_comes_in(vpc, &services, "inet").await;
    });
}

#[test]
fn so_does_one_on_a_bridge() {
    on_a_machine(|machine| async move {
        let _office = machine.office();
        let vpc = machine.bridge_vpc(1, Some("office")).await;
        let services = services(&machine, AGENT);
        a_flood_is_cut_where_it_comes_in(vpc, &services, "bridge").await;
    });
}
