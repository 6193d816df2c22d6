//! The host, the agent's API and other VPCs, by every address that they have on the host.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::packet::{Ends, Ipv4, protocol};

use crate::addresses::frame;
use crate::counters::{HOST_CLOSED, VPCS_APART};
use crate::siege::{At, Siege};
use crate::site::{GATEWAY, HOST};

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
    let addresses = addresses(&siege.on_host(ADDRESSES)?)?;
    ensure!(addresses.contains(&HOST), "the host has {addresses:?}");
    for (name, port) in [("the agent's API", api), ("another port", service)] {
        let name = format!("{name}, at {} addresses", addresses.len());
        siege.measure(&name, HOST_CLOSED, |siege| connect(siege, &addresses, port))?;
    }
    // Behind its uplink; its range is the attacker's own.
    let others = self::addresses(&siege.in_other_network(ADDRESSES)?)?;
    let uplinks: Vec<_> =
        others.into_iter().filter(|address| address.octets()[..3] != SERVICES).collect();
    let uplinks: Vec<_> = uplinks.into_iter().filter(|address| *address != GATEWAY).collect();
    ensure!(!uplinks.is_empty(), "the other VPC has no uplink");
    siege.measure("another VPC, by its uplink", VPCS_APART, |siege| connect(siege, &uplinks, 22))
}

/// The first bytes of the services' addresses, which every VPC has.
const SERVICES: [u8; 3] = [169, 254, 169];
const ADDRESSES: &[&str] = &["ip", "-4", "-o", "address", "show"];

/// How many connections were tried, and how many answers came.
fn connect(siege: &mut Siege<'_>, addresses: &[Ipv4Addr], port: u16) -> Result<(u64, u64)> {
    siege.wire(At::Attacker).forget()?;
    let frames: Vec<_> = addresses.iter().map(|to| syn(siege, *to, port)).collect();
    let sent = siege.wire(At::Attacker).send(&frames, TIMES)?;
    siege.settle()?;
    let mut passed = 0;
    for address in addresses {
        let ends = [address.octets(), siege.site.attacker.address.octets()].concat();
        passed += siege.wire(At::Attacker).heard(&ends)?;
    }
    Ok((sent, passed))
}

fn syn(siege: &Siege<'_>, to: Ipv4Addr, port: u16) -> Vec<u8> {
    let (site, from) = (siege.site, siege.site.attacker.address);
    let syn = Ends::V4(from, to).syn(40_003, port, b"");
    frame(site, site.attacker.mac, &Ipv4::new(from, to, protocol::TCP, syn))
}

/// All but loopback's own, which no packet of a guest's can name.
fn addresses(list: &str) -> Result<Vec<Ipv4Addr>> {
    let addresses = list.lines().map(|line| {
        let address = line.split_ascii_whitespace().nth(3).and_then(|a| a.split('/').next());
        anyhow::Ok(address.with_context(|| format!("no address: {line}"))?.parse::<Ipv4Addr>()?)
    });
    let addresses: Result<Vec<_>> = addresses.collect();
    Ok(addresses?.into_iter().filter(|address| !address.is_loopback()).collect())
}
