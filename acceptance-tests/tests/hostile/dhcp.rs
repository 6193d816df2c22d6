//! DHCP: addresses for others, and of others.

use std::net::Ipv4Addr;

use anyhow::Result;
use weft_acceptance::packet::{BROADCAST, Ends, Ipv4, Mac, dhcp, ether_type, ethernet, protocol};

use crate::counters::{
    DHCP_MALFORMED, DHCP_SERVER, DHCP_STRANGER, NOT_A_SERVICE, SPOOFED_MAC, SPOOFED_SOURCE,
};
use crate::dice::Dice;
use crate::siege::{At, Siege};
use crate::site::{GATEWAY, Site};

const CLIENT: u16 = 68;
const SERVER: u16 = 67;
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// Options (RFC 2132): the message's type; with DISCOVER, OFFER and RELEASE.
const DISCOVER: [u8; 3] = [53, 1, 1];
const OFFER: [u8; 3] = [53, 1, 2];
const RELEASE: [u8; 3] = [53, 1, 7];
/// How many addresses a starving attacker asks for.
const HUNGER: u8 = 200;

/// The number of the exchange, by which an answer is known.
fn id(mark: &[u8]) -> u32 {
    mark.iter().fold(0, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte))
}

/// The beginning of an answer in that exchange (RFC 2131, 2).
fn answer(id: u32) -> Vec<u8> {
    [&[2, 1, 6, 0][..], &id.to_be_bytes()].concat()
}

/// To everybody, as a client sends that has no address yet.
fn from_client(mac: Mac, message: &[u8]) -> Vec<u8> {
    let udp = Ends::V4(NOBODY, Ipv4Addr::BROADCAST).udp(CLIENT, SERVER, message);
    let packet = Ipv4::new(NOBODY, Ipv4Addr::BROADCAST, protocol::UDP, udp);
    ethernet(BROADCAST, mac, ether_type::IPV4, &packet.bytes())
}

fn offer(site: &Site, from: Ipv4Addr, to: Ipv4Addr, mark: &[u8]) -> Vec<u8> {
    // With the attacker as router and resolver, and the mark as a domain's name.
    let own = site.attacker.address.octets();
    let mut options = OFFER.to_vec();
    for code in [54, 3, 6] {
        options.extend([code, 4]);
        options.extend(own);
    }
    options.extend([15, u8::try_from(mark.len()).unwrap_or_default()]);
    options.extend(mark);
    let message = dhcp(2, id(mark), site.victim.mac, site.victim.address, &options);
    let udp = Ends::V4(from, to).udp(SERVER, CLIENT, &message);
    let packet = Ipv4::new(from, to, protocol::UDP, udp).bytes();
    ethernet(site.router_mac(), site.attacker.mac, ether_type::IPV4, &packet)
}

pub(crate) fn attack(siege: &mut Siege<'_>) -> Result<()> {
    siege.family("DHCP");
    let own = siege.site.attacker.mac;
    siege.control("an address for itself", |siege| {
        let id = id(&siege.mark());
        let ask = from_client(own, &dhcp(1, id, own, NOBODY, &DISCOVER));
        let sent = siege.wire(At::Attacker).send(&[ask], 1)?;
        siege.hears(At::Attacker, &answer(id))?;
        Ok((sent, siege.wire(At::Attacker).heard(&answer(id))?))
    })?;
    for (name, counter, masked) in [
        ("starvation by client MACs", DHCP_STRANGER, false),
        ("starvation by client and sender MACs", SPOOFED_MAC, true),
    ] {
        siege.measure(name, counter, |siege| {
            let id = id(&siege.mark());
            let asks: Vec<_> = (1..=HUNGER)
                .map(|n| {
                    let client = [2, 0, 0, 0, 0, n];
                    let sender = if masked { client } else { own };
                    from_client(sender, &dhcp(1, id, client, NOBODY, &DISCOVER))
                })
                .collect();
            let sent = siege.wire(At::Attacker).send(&asks, 1)?;
            siege.settle()?;
            Ok((sent, siege.wire(At::Attacker).heard(&answer(id))?))
        })?;
    }
    siege.measure("releases the victim's address", DHCP_STRANGER, |siege| {
        let (site, id) = (siege.site, id(&siege.mark()));
        let message = dhcp(1, id, site.victim.mac, NOBODY, &RELEASE);
        let from = site.attacker.address;
        let udp = Ends::V4(from, GATEWAY).udp(CLIENT, SERVER, &message);
        let packet = Ipv4::new(from, GATEWAY, protocol::UDP, udp).bytes();
        let frame = ethernet(site.router_mac(), own, ether_type::IPV4, &packet);
        let sent = siege.wire(At::Attacker).send(&[frame], 3)?;
        siege.settle()?;
        Ok((sent, siege.wire(At::Attacker).heard(&answer(id))?))
    })?;
    siege.attack("an offer to the victim", DHCP_SERVER, |site, mark| {
        vec![offer(site, site.attacker.address, site.victim.address, mark)]
    })?;
    siege.attack("an offer to everybody", NOT_A_SERVICE, |site, mark| {
        vec![offer(site, site.attacker.address, Ipv4Addr::BROADCAST, mark)]
    })?;
    siege.attack("an offer in the gateway's name", SPOOFED_SOURCE, |site, mark| {
        vec![offer(site, GATEWAY, site.victim.address, mark)]
    })?;
    malformed(siege, own)
}

/// What is no request, in a hundred ways, with the beginning that says so.
fn malformed(siege: &mut Siege<'_>, own: Mac) -> Result<()> {
    siege.measure("garbage", DHCP_MALFORMED, |siege| {
        let id = id(&siege.mark());
        let mut dice = Dice::new(1);
        let frames: Vec<_> = (0..100)
            .map(|_| {
                let mut message = dhcp(1, id, own, NOBODY, &DISCOVER);
                let length = dice.below(message.len());
                for byte in &mut message[3..] {
                    if dice.below(4) == 0 {
                        *byte = dice.byte();
                    }
                }
                // Of no known hardware, or cut before the options.
                match dice.below(2) {
                    0 => message[1] = 6,
                    _ => message.truncate(length.min(239)),
                }
                from_client(own, &message)
            })
            .collect();
        let sent = siege.wire(At::Attacker).send(&frames, 1)?;
        siege.settle()?;
        Ok((sent, siege.wire(At::Attacker).heard(&answer(id))?))
    })?;
    // And whoever asks rightly is answered as before.
    siege.control("afterwards, an address for the victim", |siege| {
        let (id, victim) = (id(&siege.mark()), siege.site.victim.mac);
        let ask = from_client(victim, &dhcp(1, id, victim, NOBODY, &DISCOVER));
        let sent = siege.wire(At::Victim).send(&[ask], 1)?;
        siege.hears(At::Victim, &answer(id))?;
        Ok((sent, siege.wire(At::Victim).heard(&answer(id))?))
    })
}
