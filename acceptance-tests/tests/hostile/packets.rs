//! Packets of an unusual make: fragments, options, tags, protocols, destinations.

use std::net::Ipv4Addr;

use anyhow::Result;
use weft_acceptance::packet::{Ends, Ipv4, ether_type, ethernet, icmp, protocol, tagged};

use crate::addresses::{datagram, frame};
use crate::counters::{
    BAD_HEADER, DHCP_SERVER, INVALID, MULTICAST, NO_HANDLER, NOT_A_SERVICE,
    NOT_A_SERVICE_TOO_OFTEN, OTHER_HOST, OVERLAP, SOURCE_ROUTE, SPOOFED_SOURCE,
};
use crate::siege::{At, Siege};
use crate::site::{GATEWAY, OFFICE, Site};

/// An honest packet to the victim with `mark` in it.
fn to_victim(site: &Site, mark: &[u8]) -> Ipv4 {
    let (from, to) = (site.attacker.address, site.victim.address);
    Ipv4::new(from, to, protocol::UDP, Ends::V4(from, to).udp(4000, 4001, mark))
}

fn sent(site: &Site, packet: &Ipv4) -> Vec<u8> {
    frame(site, site.attacker.mac, packet)
}

/// The packet in pieces of so many bytes, a multiple of eight.
fn pieces(packet: &Ipv4, size: usize) -> Vec<Ipv4> {
    let last = packet.payload.len().div_ceil(size) - 1;
    let chunks = packet.payload.chunks(size).enumerate();
    chunks
        .map(|(n, payload)| Ipv4 {
            offset: u16::try_from(n * size / 8).unwrap_or(u16::MAX),
            more: n != last,
            payload: payload.to_vec(),
            ..packet.clone()
        })
        .collect()
}

pub(crate) fn attack(siege: &mut Siege<'_>) -> Result<()> {
    fragments(siege)?;
    options(siege)?;
    tags(siege)?;
    protocols(siege)?;
    destinations(siege)
}

fn fragments(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("fragments");
    let whole = |site: &Site, mark: &[u8], id| {
        let data = [mark, &[0; 64]].concat();
        Ipv4 { id, ..to_victim(site, &data) }
    };
    // Put together on the way, judged, and sent on in pieces of the same size: the mark is in one.
    siege.whole("of an honest datagram", "passed, judged whole (as in EC2)", |site, mark| {
        pieces(&whole(site, mark, 1), 32).iter().map(|piece| sent(site, piece)).collect()
    })?;
    siege.allowed("eight bytes each, the last first", "passed, judged whole", |siege| {
        // A mark that fits: all pieces but the first, which is the header of UDP, have it.
        let mark = siege.mark();
        let (site, mark) = (siege.site, &mark[mark.len() - 8..]);
        let packet = Ipv4 { id: 2, ..to_victim(site, &mark.repeat(10)) };
        let frames: Vec<_> =
            pieces(&packet, 8).iter().rev().map(|piece| sent(site, piece)).collect();
        let sent = siege.wire(At::Attacker).send(&frames, 1)?;
        siege.hears(At::Victim, mark)?;
        siege.settle()?;
        Ok((sent - 1, siege.wire(At::Victim).heard(mark)?))
    })?;
    siege.attack("in the victim's name", SPOOFED_SOURCE, |site, mark| {
        let (source, destination) = (site.victim.address, OFFICE);
        let packet = Ipv4 { source, destination, ..whole(site, mark, 3) };
        pieces(&packet, 32).iter().map(|piece| sent(site, piece)).collect()
    })?;
    siege.measure("a DHCP server's offer in pieces", DHCP_SERVER, |siege| {
        let (site, mark) = (siege.site, siege.mark());
        let (from, to) = (site.attacker.address, site.victim.address);
        let udp = Ends::V4(from, to).udp(67, 68, &[&mark, &[0; 64][..]].concat());
        let whole = Ipv4 { id: 4, ..Ipv4::new(from, to, protocol::UDP, udp) };
        let frames: Vec<_> = pieces(&whole, 64).iter().map(|piece| sent(site, piece)).collect();
        siege.wire(At::Attacker).send(&frames, 1)?;
        siege.settle()?;
        // Judged whole: of all pieces one is counted.
        Ok((1, siege.wire(At::Victim).heard(&mark)?))
    })?;
    overlapping(siege)?;
    slipped_in(siege)
}

/// A piece that says otherwise what another one has said, and a piece without the others.
fn overlapping(siege: &mut Siege<'_>) -> Result<()> {
    let parts = |siege: &mut Siege<'_>, id| {
        let (site, mark) = (siege.site, siege.mark());
        let packet = Ipv4 { id, ..to_victim(site, &mark.repeat(4)) };
        let mut pieces = pieces(&packet, 32);
        // Of the second the first eight bytes, where the first one's last are.
        pieces[1].offset -= 1;
        (mark, pieces.iter().map(|piece| sent(site, piece)).collect::<Vec<_>>())
    };
    siege.measure("overlapping", OVERLAP, |siege| {
        let (mark, frames) = parts(siege, 5);
        siege.wire(At::Attacker).send(&frames, 1)?;
        siege.settle()?;
        Ok((1, siege.wire(At::Victim).heard(&mark)?))
    })?;
    siege.harmless("never complete", "kept for 30 s, 4 MiB at most", |siege| {
        let (mark, frames) = parts(siege, 6);
        let sent = siege.wire(At::Attacker).send(&frames[..1], 3)?;
        siege.settle()?;
        Ok((sent, siege.wire(At::Victim).heard(&mark)?))
    })
}

/// The victim sends a datagram in pieces to the office, and its last is late; the attacker knows
/// the datagram's number and sends a piece of its own making in the victim's name before it.
fn slipped_in(siege: &mut Siege<'_>) -> Result<()> {
    let (mark, honest_mark) = (siege.mark(), siege.mark());
    let (attacker, victim) = (siege.site.attacker.clone(), siege.site.victim.clone());
    // The piece in the middle begins behind 24 bytes of data and UDP's header.
    let data = [&[0; 24][..], &honest_mark, &[0; 43]].concat();
    let udp = Ends::V4(victim.address, OFFICE).udp(4000, 4001, &data);
    let honest = Ipv4 { id: 77, ..Ipv4::new(victim.address, OFFICE, protocol::UDP, udp) };
    let pieces = pieces(&honest, 32);
    let victims_router = victim.router_mac();
    let by_victim =
        |piece: &Ipv4| ethernet(victims_router, victim.mac, ether_type::IPV4, &piece.bytes());
    let mut forged = pieces[1].clone();
    forged.payload[..mark.len()].copy_from_slice(&mark);
    let forged = ethernet(siege.site.router_mac(), attacker.mac, ether_type::IPV4, &forged.bytes());
    siege.measure("slipped into the victim's datagram", SPOOFED_SOURCE, |siege| {
        siege.wire(At::Victim).send(&[by_victim(&pieces[0])], 1)?;
        siege.settle()?;
        let sent = siege.wire(At::Attacker).send(&[forged], 1)?;
        siege.settle()?;
        siege.wire(At::Victim).send(&[by_victim(&pieces[2])], 1)?;
        siege.settle()?;
        let passed = siege.wire(At::Office).heard(&mark)?;
        // And the honest piece in its place makes the datagram whole: the forged one left nothing.
        siege.wire(At::Victim).send(&[by_victim(&pieces[1])], 1)?;
        siege.hears(At::Office, &honest_mark)?;
        Ok((sent, passed))
    })
}

fn options(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("IP options");
    let with = |site: &Site, mark: &[u8], options: Vec<u8>| {
        vec![sent(site, &Ipv4 { options, ..to_victim(site, mark) })]
    };
    // RFC 791, 3.1: kind, length, pointer, room for two addresses.
    siege.passes("record route", "passed, harmless", At::Victim, |site, mark| {
        with(site, mark, vec![7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0])
    })?;
    siege.passes("router alert", "passed, harmless", At::Victim, |site, mark| {
        with(site, mark, vec![148, 4, 0, 0])
    })?;
    for (name, kind) in [("loose source route", 131), ("strict source route", 137)] {
        siege.attack(name, SOURCE_ROUTE, |site, mark| {
            let by = |hop: Ipv4Addr| {
                let option = [&[kind, 7, 4][..], &hop.octets()].concat();
                with(site, mark, option).swap_remove(0)
            };
            vec![by(GATEWAY), by(OFFICE), by(site.victim.address)]
        })?;
    }
    siege.attack("longer than their header", BAD_HEADER, |site, mark| {
        with(site, mark, vec![7, 39, 4, 0])
    })
}

fn tags(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("tags");
    let inner = |site: &Site, mark: &[u8]| to_victim(site, mark).bytes();
    let outer = |site: &Site, kind, payload: &[u8]| {
        vec![ethernet(site.router_mac(), site.attacker.mac, kind, payload)]
    };
    siege.attack("802.1Q", OTHER_HOST, |site, mark| {
        let tag = tagged(7, ether_type::IPV4, &inner(site, mark));
        outer(site, ether_type::VLAN, &tag)
    })?;
    siege.attack("QinQ", NO_HANDLER, |site, mark| {
        let tag = tagged(7, ether_type::IPV4, &inner(site, mark));
        outer(site, ether_type::QINQ, &tagged(8, ether_type::VLAN, &tag))
    })?;
    siege.attack("of VLAN 0, around the victim's address", SPOOFED_SOURCE, |site, mark| {
        let packet =
            Ipv4 { source: site.victim.address, destination: OFFICE, ..to_victim(site, mark) };
        outer(site, ether_type::VLAN, &tagged(0, ether_type::IPV4, &packet.bytes()))
    })?;
    siege.attack("EtherTypes of no IP", NO_HANDLER, |site, mark| {
        // LLDP, PPPoE, MPLS, Ethernet flow control, and nobody's.
        [0x88cc, 0x8864, 0x8847, 0x8808, 0x1234]
            .map(|kind| ethernet(site.router_mac(), site.attacker.mac, kind, mark))
            .into()
    })
}

fn protocols(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("protocols");
    // What a tunnel's end would take out and send on as the office.
    let inner = |site: &Site, mark: &[u8]| {
        let to = site.victim.address;
        Ipv4::new(OFFICE, to, protocol::UDP, Ends::V4(OFFICE, to).udp(1, 2, mark)).bytes()
    };
    siege.attack("tunnels to the router (IPIP, GRE, 6in4)", NOT_A_SERVICE, |site, mark| {
        let gre = [&[0, 0, 8, 0][..], &inner(site, mark)].concat();
        let tunnel = |protocol, payload| {
            sent(site, &Ipv4::new(site.attacker.address, GATEWAY, protocol, payload))
        };
        vec![
            tunnel(protocol::IPIP, inner(site, mark)),
            tunnel(protocol::GRE, gre),
            tunnel(protocol::IPV6, inner(site, mark)),
        ]
    })?;
    let redirect = |site: &Site, mark: &[u8]| {
        icmp(5, 1, &[&site.attacker.address.octets()[..], &inner(site, mark)].concat())
    };
    siege.attack("ICMP redirect to the router", INVALID, |site, mark| {
        let message = redirect(site, mark);
        vec![sent(site, &Ipv4::new(site.attacker.address, GATEWAY, protocol::ICMP, message))]
    })?;
    siege.attack("ICMP redirect in the gateway's name", SPOOFED_SOURCE, |site, mark| {
        let message = redirect(site, mark);
        vec![sent(site, &Ipv4::new(GATEWAY, site.victim.address, protocol::ICMP, message))]
    })?;
    siege.attack("TTL 1, to the victim and beyond", BAD_HEADER, |site, mark| {
        let last = |to| {
            let udp = Ends::V4(site.attacker.address, to).udp(4000, 4001, mark);
            let packet = Ipv4::new(site.attacker.address, to, protocol::UDP, udp);
            sent(site, &Ipv4 { ttl: 1, ..packet })
        };
        vec![last(site.victim.address), last(OFFICE)]
    })
}

fn destinations(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("destinations");
    let to = |site: &Site, address, mark: &[u8]| {
        vec![datagram(site, site.attacker.mac, site.attacker.address, address, mark)]
    };
    siege.flood("everybody (a flood)", NOT_A_SERVICE_TOO_OFTEN, 2000, |site, mark| {
        to(site, Ipv4Addr::BROADCAST, mark)
    })?;
    for (name, group) in [
        ("the group of all hosts", Ipv4Addr::new(224, 0, 0, 1)),
        ("the group of mDNS", Ipv4Addr::new(224, 0, 0, 251)),
        ("a group nobody is in", Ipv4Addr::new(239, 1, 2, 3)),
    ] {
        siege.flood(&format!("{name} (a flood)"), MULTICAST, 1000, |site, mark| {
            let mut frame = to(site, group, mark);
            // The MAC of the group (RFC 1112, 6.4).
            let [_, b, c, d] = group.octets();
            frame[0][..6].copy_from_slice(&[1, 0, 0x5e, b & 0x7f, c, d]);
            frame
        })?;
    }
    siege.attack("to the victim's MAC, past the router", OTHER_HOST, |site, mark| {
        let packet = to_victim(site, mark).bytes();
        vec![ethernet(site.victim.mac, site.attacker.mac, ether_type::IPV4, &packet)]
    })
}
