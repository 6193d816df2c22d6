//! The host and the agent's API, by every address that the host has.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::packet::{Ends, Ipv4, protocol};

use crate::addresses::frame;
use crate::counters::HOST_CLOSED;
use crate::siege::{At, Siege};
use crate::site::HOST;

/// How often each connection is tried.
const TIMES: u32 = 3;

/// `api` is where the agent listens on TCP, on all addresses; `service` another port of the host's.
pub(crate) fn attack(siege: &mut Siege<'_>, api: u16, service: u16) -> Result<()> {
    siege.family("host");
    siege.control("its ports, from the office", |siege| {
        let address = |port| (HOST, port).into();
        let patience = std::time::Duration::from_secs(5);
        let mut open = 0;
        for port in [api, service] {
            open += u64::from(siege.site.office.connect(address(port), patience)?.is_ok());
        }
        Ok((2, open))
    })?;
    let addresses = addresses(siege)?;
    ensure!(addresses.contains(&HOST), "the host has {addresses:?}");
    for (name, port) in [("the agent's API", api), ("another port", service)] {
        siege.measure(
            &format!("{name}, at {} addresses", addresses.len()),
            HOST_CLOSED,
            |siege| {
                let mut passed = 0;
                siege.wire(At::Attacker).forget()?;
                let frames: Vec<_> = addresses.iter().map(|to| syn(siege, *to, port)).collect();
                let sent = siege.wire(At::Attacker).send(&frames, TIMES)?;
                siege.settle()?;
                for address in &addresses {
                    let ends = [address.octets(), siege.site.attacker.address.octets()].concat();
                    passed += siege.wire(At::Attacker).heard(&ends)?;
                }
                Ok((sent, passed))
            },
        )?;
    }
    Ok(())
}

fn syn(siege: &Siege<'_>, to: Ipv4Addr, port: u16) -> Vec<u8> {
    let (site, from) = (siege.site, siege.site.attacker.address);
    let syn = Ends::V4(from, to).syn(40_003, port, b"");
    frame(site, site.attacker.mac, &Ipv4::new(from, to, protocol::TCP, syn))
}

/// All but loopback's, which no packet of a guest's can name.
fn addresses(siege: &Siege<'_>) -> Result<Vec<Ipv4Addr>> {
    let list = siege.on_host(&["ip", "-4", "-o", "address", "show", "scope", "global"])?;
    let link = siege.on_host(&["ip", "-4", "-o", "address", "show", "scope", "link"])?;
    let lines = list.lines().chain(link.lines());
    lines
        .map(|line| {
            let address = line.split_ascii_whitespace().nth(3).and_then(|a| a.split('/').next());
            Ok(address.with_context(|| format!("no address: {line}"))?.parse()?)
        })
        .collect()
}
