//! ARP: what the attacker says of whose address is where.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use weft_acceptance::packet::{Arp, BROADCAST, Mac, ether_type, ethernet};

use crate::counters::ARP_CLAIM;
use crate::siege::{At, Siege};
use crate::site::{GATEWAY, NOBODY, OFFICE};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const NOBODYS: Mac = [0; 6];

/// With the mark behind it, where the link has only padding.
fn frame(to: Mac, from: Mac, arp: Arp, mark: &[u8]) -> Vec<u8> {
    ethernet(to, from, ether_type::ARP, &[&arp.bytes()[..], mark].concat())
}

fn says(operation: u16, mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Arp {
    Arp { operation, sender_mac: mac, sender, target_mac: NOBODYS, target }
}

pub(crate) fn attack(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("ARP");
    let asked = |siege: &mut Siege<'_>, target: Ipv4Addr| -> Result<usize> {
        let (mac, address) = (siege.site.attacker.mac, siege.site.attacker.address);
        siege.wire(At::Attacker).forget()?;
        let ask = frame(BROADCAST, mac, says(REQUEST, mac, address, target), b"");
        siege.wire(At::Attacker).send(&[ask], 1)?;
        siege.settle()?;
        // "Is at": operation 2, of any MAC, of that address.
        let frames = siege.wire(At::Attacker).frames(&[0, 1, 8, 0, 6, 4, 0, 2])?;
        Ok(frames.iter().filter(|frame| frame[28..32] == target.octets()).count())
    };
    ensure!(asked(siege, GATEWAY)? == 1, "control: the router answers for itself");

    siege.harmless("asks where nobody is", "no answer", |siege| {
        let mut passed = 0;
        // In its own subnet, in none of its VPC, and on its own link's other end.
        let addresses = [NOBODY, Ipv4Addr::new(10, 0, 2, 7), Ipv4Addr::new(127, 0, 0, 1)];
        for address in addresses {
            passed += u64::try_from(asked(siege, address)?)?;
        }
        Ok((addresses.len().try_into()?, passed))
    })?;

    let neighbours = |siege: &Siege<'_>| siege.in_network(&["ip", "-4", "neigh", "show"]);
    let before = neighbours(siege)?;
    let claims = [
        ("the gateway's address", GATEWAY),
        ("the victim's address", siege.site.victim.address),
        ("the office's address", OFFICE),
        ("an address of the services", Ipv4Addr::new(169, 254, 169, 254)),
    ];
    for (name, address) in claims {
        siege.attack(&format!("claims {name}"), ARP_CLAIM, |site, mark| {
            let mac = site.attacker.mac;
            let all = |operation, target| {
                frame(BROADCAST, mac, says(operation, mac, address, target), mark)
            };
            let router = |operation, target| {
                frame(site.router_mac(), mac, says(operation, mac, address, target), mark)
            };
            vec![
                all(REQUEST, address),
                all(REPLY, address),
                all(REPLY, site.victim.address),
                router(REPLY, GATEWAY),
                router(REQUEST, site.victim.address),
            ]
        })?;
    }
    siege.attack("its own address is at the victim's MAC", ARP_CLAIM, |site, mark| {
        let arp = says(REQUEST, site.victim.mac, site.attacker.address, GATEWAY);
        vec![
            frame(BROADCAST, site.attacker.mac, arp, mark),
            frame(BROADCAST, site.victim.mac, arp, mark),
        ]
    })?;
    siege.attack("a reply that nobody asked for", ARP_CLAIM, |site, mark| {
        let (mac, own) = (site.attacker.mac, site.attacker.address);
        vec![frame(BROADCAST, mac, says(REPLY, mac, own, site.victim.address), mark)]
    })?;
    siege.attack("RARP and other operations", ARP_CLAIM, |site, mark| {
        let (mac, own) = (site.attacker.mac, site.attacker.address);
        [3, 4, 8, 9, 0xffff]
            .map(|operation| frame(BROADCAST, mac, says(operation, mac, own, GATEWAY), mark))
            .into()
    })?;
    siege.attack("of another kind of hardware", ARP_CLAIM, |site, mark| {
        let (mac, own) = (site.attacker.mac, site.attacker.address);
        let mut frame = frame(BROADCAST, mac, says(REQUEST, mac, own, GATEWAY), mark);
        // A tunnel's, whose addresses have other lengths.
        frame[15] = 6;
        vec![frame]
    })?;
    let after = neighbours(siege)?;
    ensure!(sorted(&before) == sorted(&after), "the neighbours were\n{before}and are\n{after}");
    Ok(())
}

/// The kernel gives its table back in any order.
fn sorted(text: &str) -> Vec<&str> {
    // What the router itself asked for comes and goes; guests are there for ever.
    let mut lines: Vec<_> = text.lines().filter(|line| line.contains("PERMANENT")).collect();
    lines.sort_unstable();
    lines
}
