//! The hostile guest suite: real frames of a real guest, which has root and wants what is not its
//! own, against a real agent. One row per attack; see `docs/guides/hostile-guests.md`.
//!
//! It needs root and QEMU; where those are missing it says `SKIPPED` and why.

#[path = "hostile/addresses.rs"]
mod addresses;
#[path = "hostile/arp.rs"]
mod arp;
#[path = "hostile/counters.rs"]
mod counters;
#[path = "hostile/dhcp.rs"]
mod dhcp;
#[path = "hostile/dice.rs"]
mod dice;
#[path = "hostile/host.rs"]
mod host;
#[path = "hostile/ipv6.rs"]
mod ipv6;
#[path = "hostile/packets.rs"]
mod packets;
#[path = "hostile/services.rs"]
mod services;
#[path = "hostile/siege.rs"]
mod siege;
#[path = "hostile/site.rs"]
mod site;
#[path = "hostile/table.rs"]
mod table;

use anyhow::{Result, ensure};
use weft_acceptance::Lab;

use siege::Siege;
use site::Site;

#[test]
fn no_attack_of_a_guest_passes_and_each_is_counted() -> Result<()> {
    let Some(mut lab) = Lab::linux_with(&["--listen", "0.0.0.0:0"])? else { return Ok(()) };
    let api = lab.agent().port()?;
    let site = Site::build(&lab)?;
    // Another service of the host's, open to all but guests.
    let service = lab.outside()?.listen("0.0.0.0:0".parse()?)?;
    let mut siege = Siege::begin(&lab, &site)?;
    addresses::attack(&mut siege)?;
    arp::attack(&mut siege)?;
    packets::attack(&mut siege)?;
    ipv6::attack(&mut siege)?;
    dhcp::attack(&mut siege)?;
    services::attack(&mut siege)?;
    host::attack(&mut siege, api, service.local_addr()?.port())?;
    siege.end()?;
    site.clear(&lab)?;
    ensure!(lab.hypervisors().is_empty(), "{:?}", lab.hypervisors());
    lab.close()
}
