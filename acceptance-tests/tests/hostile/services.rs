//! The services: metadata of others, garbage, and what else may listen at their addresses.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::packet::{Ends, Ipv4, protocol};

use crate::addresses::frame;
use crate::counters::{
    DNS_MALFORMED, METADATA_FORWARDED, METADATA_MALFORMED, METADATA_NO_TOKEN,
    NOT_A_SERVICE_TOO_OFTEN, SPOOFED_SOURCE,
};
use crate::dice::Dice;
use crate::siege::{At, Siege};
use crate::site::GATEWAY;

const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const NAMES: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
const HTTP: u16 = 80;
const DNS: u16 = 53;
/// Where nothing but a port may be, besides the first 1024.
const LIKELY: [u16; 12] = [1900, 2049, 2375, 3306, 5353, 5355, 5432, 6443, 7070, 8080, 8443, 50051];

pub(crate) fn attack(siege: &mut Siege<'_>) -> Result<()> {
    metadata(siege)?;
    garbage(siege)?;
    ports(siege)
}

/// The whole answer to one request.
fn ask(siege: &mut Siege<'_>, at: At, head: &str) -> Result<String> {
    let request =
        format!("{head}\r\nHost: {METADATA}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let answer = siege.wire(at).tcp(METADATA, HTTP, request.as_bytes())?;
    Ok(String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned())
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ")
}

const ASK_TOKEN: &str =
    "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60";
const ADDRESS: &str = "GET /latest/meta-data/local-ipv4 HTTP/1.1";

fn token(siege: &mut Siege<'_>, at: At) -> Result<String> {
    let answer = ask(siege, at, ASK_TOKEN)?;
    ensure!(is_ok(&answer), "no token: {answer}");
    Ok(answer.split("\r\n\r\n").nth(1).context("no token")?.trim().to_owned())
}

/// The guest's own address, as it is told with its own token.
fn own_address(siege: &mut Siege<'_>, at: At) -> Result<(u64, u64)> {
    let token = token(siege, at)?;
    let answer = ask(siege, at, &format!("{ADDRESS}\r\nX-aws-ec2-metadata-token: {token}"))?;
    let own = match at {
        At::Attacker => siege.site.attacker.address,
        _ => siege.site.victim.address,
    };
    Ok((1, u64::from(is_ok(&answer) && answer.trim_end().ends_with(&own.to_string()))))
}

fn metadata(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("metadata");
    siege.control("its own, with a token", |siege| own_address(siege, At::Attacker))?;
    siege.measure("without a token (IMDSv1)", METADATA_NO_TOKEN, |siege| {
        let answer = ask(siege, At::Attacker, ADDRESS)?;
        ensure!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        Ok((1, u64::from(is_ok(&answer))))
    })?;
    siege.measure("with the victim's token", METADATA_NO_TOKEN, |siege| {
        let token = token(siege, At::Victim)?;
        let head = format!("{ADDRESS}\r\nX-aws-ec2-metadata-token: {token}");
        Ok((1, u64::from(is_ok(&ask(siege, At::Attacker, &head)?))))
    })?;
    siege.measure("a forwarded request for a token", METADATA_FORWARDED, |siege| {
        let victim = siege.site.victim.address;
        let head = format!("{ASK_TOKEN}\r\nX-Forwarded-For: {victim}");
        Ok((1, u64::from(is_ok(&ask(siege, At::Attacker, &head)?))))
    })?;
    siege.measure("a connection in the victim's name", SPOOFED_SOURCE, |siege| {
        let (site, mark) = (siege.site, siege.mark());
        let victim = site.victim.address;
        let syn = Ends::V4(victim, METADATA).syn(40_000, HTTP, &mark);
        let packet = Ipv4::new(victim, METADATA, protocol::TCP, syn);
        let frame = frame(site, site.attacker.mac, &packet);
        siege.wire(At::Victim).forget()?;
        let sent = siege.wire(At::Attacker).send(&[frame], 3)?;
        siege.settle()?;
        // An answer would go to the victim.
        let answer = [METADATA.octets(), victim.octets()].concat();
        Ok((sent, siege.wire(At::Victim).heard(&answer)?))
    })?;
    siege.harmless("answers for a machine behind the guest", "answers have TTL 1", |siege| {
        siege.wire(At::Attacker).forget()?;
        ensure!(is_ok(&ask(siege, At::Attacker, ASK_TOKEN)?));
        let answer = [METADATA.octets(), siege.site.attacker.address.octets()].concat();
        let frames = siege.wire(At::Attacker).frames(&answer)?;
        // What is told, not what opens the connection: behind the frame's 14 bytes a packet whose
        // length is more than that of its head and TCP's. The TTL is its ninth byte.
        let told: Vec<_> = frames.iter().filter(|frame| payload(frame) > 0).collect();
        let farther = told.iter().filter(|frame| frame[22] > 1).count();
        Ok((told.len().try_into()?, farther.try_into()?))
    })
}

/// How many bytes a TCP segment carries (RFC 791, 3.1; RFC 9293, 3.1).
fn payload(frame: &[u8]) -> usize {
    let packet = &frame[14..];
    let (total, head) =
        (usize::from(packet[2]) << 8 | usize::from(packet[3]), 4 * (packet[0] & 0xf));
    let segment = usize::from(head);
    total.saturating_sub(segment + 4 * usize::from(packet[segment + 12] >> 4))
}

/// Whether a frame from the resolver tells anything: behind 14 bytes of frame, 20 of packet and 8 of
/// UDP, ANCOUNT is the seventh and eighth byte (RFC 1035, 4.1.1).
fn has_records(frame: &[u8]) -> bool {
    frame.get(48..50).is_some_and(|count| count != [0, 0])
}

fn garbage(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("garbage");
    siege.measure("at the resolver", DNS_MALFORMED, |siege| {
        let site = siege.site;
        let (from, mut dice) = (site.attacker.address, Dice::new(2));
        siege.wire(At::Attacker).forget()?;
        let frames: Vec<_> = (0..100)
            .map(|_| {
                // Too short for a head, or a question that is cut (RFC 1035, 4.1).
                let mut message = dice.bytes(12);
                match dice.below(2) {
                    0 => message.truncate(dice.below(12)),
                    _ => message[2..].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
                }
                let udp = Ends::V4(from, NAMES).udp(40_001, DNS, &message);
                frame(site, site.attacker.mac, &Ipv4::new(from, NAMES, protocol::UDP, udp))
            })
            .collect();
        let sent = siege.wire(At::Attacker).send(&frames, 1)?;
        siege.settle()?;
        let ends = [NAMES.octets(), from.octets()].concat();
        let answers = siege.wire(At::Attacker).frames(&ends)?;
        Ok((sent, answers.iter().filter(|frame| has_records(frame)).count().try_into()?))
    })?;
    siege.measure("at the metadata service", METADATA_MALFORMED, |siege| {
        let (mut dice, mut passed) = (Dice::new(3), 0);
        let tries = 20;
        for _ in 0..tries {
            let length = 1 + dice.below(900);
            let mut request = dice.bytes(length);
            // No letter, so no method (RFC 9110, 5.6.2).
            request[0] = 0;
            let answer = siege.wire(At::Attacker).tcp(METADATA, HTTP, &request)?;
            let answer = String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned();
            passed += u64::from(is_ok(&answer));
        }
        Ok((tries, passed))
    })?;
    siege.control("afterwards, the victim's metadata", |siege| own_address(siege, At::Victim))
}

/// Tries every port worth it, by TCP and by UDP.
fn ports(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("port scan");
    for (name, address, tcp, udp) in [
        ("the gateway", GATEWAY, [DNS].as_slice(), [DNS].as_slice()),
        ("the resolver", NAMES, &[DNS], &[DNS]),
        ("the metadata service", METADATA, &[HTTP], &[]),
    ] {
        for (protocol, word, services) in [(protocol::TCP, "TCP", tcp), (protocol::UDP, "UDP", udp)]
        {
            let services: BTreeSet<u16> = services.iter().copied().collect();
            siege.measure(&format!("{name}, {word}"), NOT_A_SERVICE_TOO_OFTEN, |siege| {
                let open = open_ports(siege, address, protocol)?;
                let closed = u64::try_from(ports_to_try().len() - services.len())?;
                ensure!(
                    services.is_subset(&open),
                    "control: of {services:?} only {open:?} are open"
                );
                Ok((closed, open.difference(&services).count().try_into()?))
            })?;
        }
    }
    Ok(())
}

/// For the address of `no-such.weft.internal` (RFC 1035, 4.1).
const QUESTION: &[u8] =
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07no-such\x04weft\x08internal\0\0\x01\0\x01";

/// In `make accept` all there are.
fn ports_to_try() -> Vec<u16> {
    match std::env::var_os("WEFT_THOROUGH") {
        Some(_) => (1..=u16::MAX).collect(),
        None => (1..=1024).chain(LIKELY).collect(),
    }
}

/// Where a connection would be taken, or a datagram is answered.
fn open_ports(siege: &mut Siege<'_>, address: Ipv4Addr, protocol: u8) -> Result<BTreeSet<u16>> {
    let site = siege.site;
    let from = site.attacker.address;
    siege.wire(At::Attacker).forget()?;
    let frames: Vec<_> = ports_to_try()
        .into_iter()
        .map(|port| {
            let ends = Ends::V4(from, address);
            let probe = match protocol {
                protocol::TCP => ends.syn(40_002, port, b""),
                // Which the resolver answers; nothing else should.
                _ => ends.udp(40_002, port, QUESTION),
            };
            frame(site, site.attacker.mac, &Ipv4::new(from, address, protocol, probe))
        })
        .collect();
    siege.wire(At::Attacker).send(&frames, 1)?;
    siege.settle()?;
    let ends = [address.octets(), from.octets()].concat();
    let answers = siege.wire(At::Attacker).frames(&ends)?;
    // Behind 14 bytes of frame and 20 of packet: the port, and at TCP's 14th byte SYN and ACK.
    let answers = answers.iter().filter(|frame| frame.len() > 48 && frame[23] == protocol);
    let taken = answers.filter(|frame| protocol != protocol::TCP || frame[47] & 0x12 == 0x12);
    Ok(taken.map(|frame| u16::from_be_bytes([frame[34], frame[35]])).collect())
}
