//! What simulated guests do with their machine: nothing, unless their names say `sim-busy`.
//!
//! Figures follow from how long a guest has run by the injected clock, so they rise with it, stand
//! still when the guest has ended, and begin anew with the next one.

use std::collections::BTreeMap;

use weft_metering::Moment;
use weft_model::{DiskCounters, GuestFigures, LinkCounters, LinkName};

use super::Behaviour;
use super::reality::{Guest, Reality};

/// Bytes that a busy guest sends in a millisecond by each of its interfaces: a megabyte a second.
const BUSY_BYTES_PER_MS: u64 = 1000;
/// Bytes that it writes to its root disk in a millisecond, and in each request.
const BUSY_WRITES_PER_MS: u64 = 500;
const WRITE_BYTES: u64 = 500;
/// An idle guest uses a hundredth of one processor.
const IDLE_SHARE: u64 = 100;
/// Bytes of a packet.
const PACKET_BYTES: u64 = 1000;

/// How long the guest ran, or has run.
fn ran_ms(guest: &Guest, now: &Moment) -> u64 {
    let Some(started) = &guest.started else { return 0 };
    guest.ended.as_ref().unwrap_or(now).since_ms(started)
}

/// Whether it works while it runs.
fn is_busy(guest: &Guest) -> bool {
    guest.behaviour == Behaviour::Busy
}

/// What a guest has used, without its links.
pub(super) fn figures(guest: &Guest, now: &Moment) -> GuestFigures {
    let (ran_ms, busy) = (ran_ms(guest, now), is_busy(guest));
    let cpu_ms = match busy {
        true => ran_ms * u64::from(guest.vcpus),
        false => ran_ms / IDLE_SHARE,
    };
    let written_bytes = if busy { ran_ms * BUSY_WRITES_PER_MS } else { 0 };
    let writes = written_bytes / WRITE_BYTES;
    let root = DiskCounters { written_bytes, writes, ..DiskCounters::default() };
    GuestFigures {
        cpu_ms,
        resident_bytes: u64::from(guest.memory_mib) << 20,
        // Nothing in it could say so.
        memory: None,
        disks: [("root".to_owned(), root)].into(),
        interfaces: BTreeMap::new(),
    }
}

/// What `taps` have carried.
pub(super) fn link_counters<'a>(
    reality: &Reality,
    taps: impl Iterator<Item = &'a LinkName>,
    now: &Moment,
) -> BTreeMap<LinkName, LinkCounters> {
    let guests: Vec<Guest> = reality.guests().iter().filter_map(|id| reality.guest(id)).collect();
    let of = |link: &LinkName| {
        let guest = guests.iter().find(|guest| guest.links.values().any(|its| its == link));
        guest.map(|guest| counters(guest, now)).unwrap_or_default()
    };
    taps.map(|link| (link.clone(), of(link))).collect()
}

fn counters(guest: &Guest, now: &Moment) -> LinkCounters {
    let sent_bytes = if is_busy(guest) { ran_ms(guest, now) * BUSY_BYTES_PER_MS } else { 0 };
    // A tap is made anew for each run, and so has another index.
    let begun = guest.started.as_ref().map_or(0, |started| started.ticks_ms);
    let index = u32::try_from(begun % u64::from(u32::MAX)).unwrap_or_default();
    LinkCounters {
        index,
        sent_bytes,
        sent_packets: sent_bytes / PACKET_BYTES,
        received_bytes: 0,
        received_packets: 0,
    }
}
