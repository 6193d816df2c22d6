//! A machine that runs guests.

use serde::{Deserialize, Serialize};

use crate::Architecture;
use crate::image::words;

words! {
    /// How guests' instructions are run.
    Accelerator {
        /// By the processor.
        Kvm = "kvm",
        /// By QEMU's translator; slow, works everywhere.
        Tcg = "tcg",
        /// Not at all: the simulated host.
        Sim = "sim",
    }
}

/// What a link has carried since it was made, seen from its guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// The link's index in its namespace: tells it from others of the same name.
    pub index: u32,
    /// Bytes that the guest sent.
    pub sent_bytes: u64,
    /// Packets that the guest sent.
    pub sent_packets: u64,
    /// Bytes that the guest was sent.
    pub received_bytes: u64,
    /// Packets that the guest was sent.
    pub received_packets: u64,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The host's name.
    pub name: String,
    /// How guests run.
    pub accelerator: Accelerator,
    /// Why that accelerator, in one sentence.
    pub accelerator_note: String,
    /// Processors of the machine.
    pub vcpus: u32,
    /// Memory that guests may have, in MiB.
    pub memory_mib: u64,
    /// Such as `QEMU 10.0.2`.
    pub hypervisor_version: String,
    /// The processor that guests have.
    pub architecture: Architecture,
}
