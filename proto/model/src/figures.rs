//! What a guest uses, as it is measured now: counters since its start, and levels.

use std::collections::BTreeMap;

use crate::{InterfaceId, LinkCounters};

/// Of one guest that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestFigures {
    /// Processor time of its hypervisor since the guest's start, in milliseconds: of all of its
    /// virtual processors, and of what emulates its devices.
    pub cpu_ms: u64,
    /// Bytes of the host's memory that its hypervisor has.
    pub resident_bytes: u64,
    /// What the guest says of its memory, where it has a balloon and a driver for it.
    pub memory: Option<GuestMemory>,
    /// By what the disk is called: `root`, `seed`, or a volume's id.
    pub disks: BTreeMap<String, DiskCounters>,
    /// By interface.
    pub interfaces: BTreeMap<InterfaceId, LinkCounters>,
}

/// A guest's word on its memory; a hostile one says what it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestMemory {
    /// Bytes that its kernel manages.
    pub total_bytes: Option<u64>,
    /// Bytes that programs could still have: `MemAvailable` of Linux.
    pub available_bytes: Option<u64>,
}

/// What a disk has carried since the guest's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Bytes read by the guest.
    pub read_bytes: u64,
    /// Bytes written by the guest.
    pub written_bytes: u64,
    /// Its read requests.
    pub reads: u64,
    /// Its write requests.
    pub writes: u64,
}
