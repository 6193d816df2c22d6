//! IPv6: sources, claims of neighbours and routers, extension headers, groups.

use std::net::Ipv6Addr;

use anyhow::Result;
use weft_acceptance::packet::{Ends, Ipv6, Mac, ether_type, ethernet, protocol};

use crate::counters::{DHCP_SERVER, MULTICAST, SPOOFED_SOURCE};
use crate::siege::{At, Siege};
use crate::site::Site;

/// The router of every link, and all nodes of one.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// For documentation (RFC 3849): nobody's.
const OUTSIDE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

// Rules of `fabric-agent/firewall/src/ruleset/sources_v6.rs`.
const DENIED: &str = "sources_v6: denied";
const ROUTER_CLAIMS: &str = "sources_v6: router claims";
const ROUTER_ADDRESS_CLAIMS: &str = "sources_v6: router address claims";
const NEIGHBOUR_CLAIMS: &str = "sources_v6: neighbour claims";
const ROUTING_HEADER: &str = "sources_v6: routing header";

/// Next headers of RFC 8200.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Messages of RFC 4861.
const ROUTER_ADVERT: u8 = 134;
const SOLICIT: u8 = 135;
const ADVERT: u8 = 136;
const REDIRECT: u8 = 137;

/// The link-local address that the attacker's MAC makes (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

fn frame(site: &Site, packet: &Ipv6) -> Vec<u8> {
    let to = match packet.destination.octets() {
        // RFC 2464, 7.
        [0xff, .., a, b, c, d] => [0x33, 0x33, a, b, c, d],
        _ => site.router_mac(),
    };
    ethernet(to, site.attacker.mac, ether_type::IPV6, &packet.bytes())
}

fn udp(source: Ipv6Addr, destination: Ipv6Addr, ports: (u16, u16), data: &[u8]) -> Ipv6 {
    let payload = Ends::V6(source, destination).udp(ports.0, ports.1, data);
    Ipv6 { source, destination, next_header: protocol::UDP, hop_limit: 64, payload }
}

fn datagram(source: Ipv6Addr, destination: Ipv6Addr, data: &[u8]) -> Ipv6 {
    udp(source, destination, (4000, 4001), data)
}

/// With an extension header of its kind before all else; `body` is all behind the next header.
fn extended(packet: Ipv6, kind: u8, body: &[u8]) -> Ipv6 {
    let payload = [&[packet.next_header], body, &packet.payload].concat();
    Ipv6 { next_header: kind, payload, ..packet }
}

/// What only neighbours say, which no router may have passed (RFC 4861, 7.1).
fn icmp(source: Ipv6Addr, destination: Ipv6Addr, kind: u8, body: &[u8]) -> Ipv6 {
    let payload = Ends::V6(source, destination).icmpv6(kind, 0, body);
    Ipv6 { source, destination, next_header: protocol::ICMPV6, hop_limit: 255, payload }
}

/// A claim that `target` is at `mac`: flags "override", the target, the MAC as an option.
fn claim(target: Ipv6Addr, mac: Mac, mark: &[u8]) -> Vec<u8> {
    [&[0x20, 0, 0, 0], &target.octets()[..], &[2, 1], &mac, mark].concat()
}

pub(crate) fn attack(siege: &mut Siege<'_>) -> Result<()> {
    sources(siege)?;
    claims(siege)?;
    headers(siege)?;
    groups(siege)
}

fn sources(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("IPv6 source");
    siege.passes("its own, to the victim", "control", At::Victim, |site, mark| {
        vec![frame(site, &datagram(site.attacker.ipv6, site.victim.ipv6, mark))]
    })?;
    let victim = siege.site.victim.clone();
    let [.., last] = siege.site.victim.ipv6.segments();
    let mut nobody = siege.site.victim.ipv6.segments();
    nobody[7] = last ^ 0x0f0f;
    for (name, source) in [
        ("the victim's", victim.ipv6),
        ("nobody's in the subnet", nobody.into()),
        ("from outside", OUTSIDE),
        ("the router's", ROUTER),
        ("the victim's link-local", link_local(victim.mac)),
        ("none", Ipv6Addr::UNSPECIFIED),
    ] {
        siege.attack(name, DENIED, |site, mark| {
            let to = [site.victim.ipv6, OUTSIDE, ROUTER];
            to.map(|to| frame(site, &datagram(source, to, mark))).into()
        })?;
    }
    siege.attack("its own, with another MAC", DENIED, |site, mark| {
        let mut frame = frame(site, &datagram(site.attacker.ipv6, site.victim.ipv6, mark));
        frame[6..12].copy_from_slice(&site.victim.mac);
        vec![frame]
    })
}

fn claims(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("NDP");
    let own = link_local(siege.site.attacker.mac);
    siege.attack("router advertisements", ROUTER_CLAIMS, |site, mark| {
        // Hop limit, flags, a lifetime of half an hour, no timers.
        let body = [&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0], mark].concat();
        [(own, ALL_NODES), (own, site.victim.ipv6), (site.attacker.ipv6, site.victim.ipv6)]
            .map(|(from, to)| frame(site, &icmp(from, to, ROUTER_ADVERT, &body)))
            .into()
    })?;
    siege.attack("redirects", ROUTER_CLAIMS, |site, mark| {
        let body = [&[0; 4], &own.octets()[..], &OUTSIDE.octets(), mark].concat();
        [own, ROUTER, site.attacker.ipv6]
            .map(|from| frame(site, &icmp(from, site.victim.ipv6, REDIRECT, &body)))
            .into()
    })?;
    for (name, target, counter) in [
        ("claims the router's address", ROUTER, ROUTER_ADDRESS_CLAIMS),
        ("claims the victim's address", siege.site.victim.ipv6, NEIGHBOUR_CLAIMS),
        ("claims an address outside", OUTSIDE, NEIGHBOUR_CLAIMS),
    ] {
        siege.attack(name, counter, |site, mark| {
            let body = claim(target, site.attacker.mac, mark);
            [(own, ALL_NODES), (own, ROUTER), (site.attacker.ipv6, site.victim.ipv6)]
                .map(|(from, to)| frame(site, &icmp(from, to, ADVERT, &body)))
                .into()
        })?;
    }
    siege.attack("solicits in the victim's name", DENIED, |site, mark| {
        let body = [&[0; 4], &ROUTER.octets()[..], &[1, 1], &site.attacker.mac, mark].concat();
        vec![frame(site, &icmp(site.victim.ipv6, ROUTER, SOLICIT, &body))]
    })?;
    siege.attack("a DHCPv6 server's answer", DHCP_SERVER, |site, mark| {
        let (from, to) = (site.attacker.ipv6, site.victim.ipv6);
        vec![frame(site, &udp(from, to, (547, 546), mark))]
    })
}

fn headers(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("IPv6 headers");
    let honest = |site: &Site, mark: &[u8]| datagram(site.attacker.ipv6, site.victim.ipv6, mark);
    // RFC 8200, 4.3 and 4.6: a length of none beyond eight bytes, and padding.
    let padding = [0, 1, 4, 0, 0, 0, 0];
    siege.passes("hop-by-hop options", "passed, harmless", At::Victim, |site, mark| {
        vec![frame(site, &extended(honest(site, mark), HOP_BY_HOP, &padding))]
    })?;
    siege.passes("destination options", "passed, harmless", At::Victim, |site, mark| {
        vec![frame(site, &extended(honest(site, mark), DESTINATION, &padding))]
    })?;
    siege.attack("hop-by-hop around the victim's source", DENIED, |site, mark| {
        let packet = datagram(site.victim.ipv6, OUTSIDE, mark);
        vec![frame(site, &extended(packet, HOP_BY_HOP, &padding))]
    })?;
    siege.attack("routing headers of all types", ROUTING_HEADER, |site, mark| {
        // Two more words, the type, one segment left, an address on the way (RFC 8200, 4.4).
        let by = |kind| [&[2, kind, 1, 0, 0, 0, 0], &site.victim.ipv6.octets()[..]].concat();
        [0, 2, 3, 4]
            .map(|kind| frame(site, &extended(honest(site, mark), ROUTING, &by(kind))))
            .into()
    })?;
    // Whole in one fragment (RFC 6946), and in two.
    let piece = |offset: u16, more: u16, id: u8| {
        let [high, low] = (offset << 3 | more).to_be_bytes();
        [0, high, low, 0, 0, 0, id]
    };
    siege.passes(
        "a fragment that is the whole",
        "passed, judged whole",
        At::Victim,
        |site, mark| vec![frame(site, &extended(honest(site, mark), FRAGMENT, &piece(0, 0, 1)))],
    )?;
    siege.attack("fragments in the victim's name", SPOOFED_SOURCE, |site, mark| {
        let packet = datagram(site.victim.ipv6, OUTSIDE, &[mark, &[0; 40]].concat());
        let (head, tail) = packet.payload.split_at(32);
        let part = |payload: &[u8], header: &[u8]| {
            let payload = payload.to_vec();
            frame(site, &extended(Ipv6 { payload, ..packet.clone() }, FRAGMENT, header))
        };
        vec![part(head, &piece(0, 1, 2)), part(tail, &piece(4, 0, 2))]
    })
}

fn groups(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("IPv6 destinations");
    for (name, group) in [
        ("all nodes (a flood)", ALL_NODES),
        (
            "a group of the site nobody is in (a flood)",
            Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x123),
        ),
    ] {
        siege.flood(name, MULTICAST, 1000, |site, mark| {
            vec![frame(site, &datagram(site.attacker.ipv6, group, mark))]
        })?;
    }
    Ok(())
}
