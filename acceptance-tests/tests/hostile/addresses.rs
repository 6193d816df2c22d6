//! As somebody else: sources of IPv4 and MACs that are not the attacker's.

use std::net::Ipv4Addr;

use anyhow::Result;
use weft_acceptance::packet::{Ends, Ipv4, Mac, ether_type, ethernet, protocol};

use crate::counters::{SPOOFED_MAC, SPOOFED_SOURCE};
use crate::siege::{At, Siege};
use crate::site::{GATEWAY, HOST, NOBODY, OFFICE, Site};

/// A datagram in a frame for the router.
pub(crate) fn datagram(
    site: &Site,
    mac: Mac,
    from: Ipv4Addr,
    to: Ipv4Addr,
    data: &[u8],
) -> Vec<u8> {
    let udp = Ends::V4(from, to).udp(4000, 4001, data);
    frame(site, mac, &Ipv4::new(from, to, protocol::UDP, udp))
}

/// A packet in a frame for the router.
pub(crate) fn frame(site: &Site, mac: Mac, packet: &Ipv4) -> Vec<u8> {
    ethernet(site.router_mac(), mac, ether_type::IPV4, &packet.bytes())
}

pub(crate) fn attack(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("source");
    let honest = |site: &Site, to, mark: &[u8]| {
        vec![datagram(site, site.attacker.mac, site.attacker.address, to, mark)]
    };
    let victim = siege.site.victim.address;
    siege.passes("its own, to the victim", "control", At::Victim, |site, mark| {
        honest(site, victim, mark)
    })?;
    siege.passes("its own, to the office", "control", At::Office, |site, mark| {
        honest(site, OFFICE, mark)
    })?;
    let sources = [
        ("the gateway's", GATEWAY),
        ("nobody's in the subnet", NOBODY),
        ("of another subnet", Ipv4Addr::new(10, 0, 2, 4)),
        ("the office's", OFFICE),
        ("the host's", HOST),
        ("the metadata service's", Ipv4Addr::new(169, 254, 169, 254)),
        ("loopback", Ipv4Addr::LOCALHOST),
        ("none", Ipv4Addr::UNSPECIFIED),
        ("everybody", Ipv4Addr::BROADCAST),
        ("a group's", Ipv4Addr::new(224, 0, 0, 5)),
    ];
    for (name, source) in sources {
        siege.attack(name, SPOOFED_SOURCE, |site, mark| {
            let from = |to| datagram(site, site.attacker.mac, source, to, mark);
            vec![from(site.victim.address), from(OFFICE), from(GATEWAY)]
        })?;
    }
    siege.attack("the victim's, to the office", SPOOFED_SOURCE, |site, mark| {
        vec![datagram(site, site.attacker.mac, site.victim.address, OFFICE, mark)]
    })?;
    siege.attack("the victim's, to itself", SPOOFED_SOURCE, |site, mark| {
        let victim = site.victim.address;
        vec![datagram(site, site.attacker.mac, victim, victim, mark)]
    })?;

    siege.family("MAC");
    let macs = [
        ("the victim's", siege.site.victim.mac),
        ("the router's", siege.site.router_mac()),
        ("everybody's", [0xff; 6]),
        ("a made-up one", [2, 0, 0, 0, 0, 1]),
    ];
    for (name, mac) in macs {
        siege.attack(name, SPOOFED_MAC, |site, mark| {
            let from = |to| datagram(site, mac, site.attacker.address, to, mark);
            vec![from(site.victim.address), from(OFFICE)]
        })?;
    }
    siege.attack("the victim's, and its address", SPOOFED_MAC, |site, mark| {
        vec![datagram(site, site.victim.mac, site.victim.address, OFFICE, mark)]
    })
}
