//! What one guest may take.

use weft_model::GuestSize;

use crate::qemu::Accel;

/// Added to what admission counts, in MiB: admission counts what QEMU usually takes, this is the
/// point where something must be wrong with it. The page cache of its disks is counted by the
/// kernel too, but given back first.
const HEADROOM_MIB: u64 = 256;
/// QEMU's own threads and the holder: its pool for disk requests alone has up to 64
/// (`THREAD_POOL_MAX_THREADS_DEFAULT` in QEMU's `include/block/thread-pool.h`).
const THREADS: u64 = 128;

/// The limits of one guest's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of memory, page cache included.
    pub(super) memory_bytes: u64,
    /// Processes and threads.
    pub(super) pids: u64,
    /// Its share of the processors among guests: one for each virtual processor.
    pub(super) vcpus: u64,
}

impl Limits {
    /// Of a guest of this size.
    pub(crate) fn new(accel: Accel, size: GuestSize, display: bool) -> Self {
        let mib = accel.memory_cost_mib(size.memory_mib, display) + HEADROOM_MIB;
        let vcpus = u64::from(size.vcpus);
        Self { memory_bytes: mib << 20, pids: THREADS + vcpus, vcpus }
    }

    /// `cpu.weight` of cgroup v2: 1 to 10,000, 100 unless told otherwise.
    pub(super) fn weight(vcpus: u64) -> u64 {
        (100 * vcpus).clamp(1, 10_000)
    }

    /// `cpu.shares` of cgroup v1: 2 to 262,144, 1,024 unless told otherwise.
    pub(super) fn shares(vcpus: u64) -> u64 {
        (1024 * vcpus).clamp(2, 262_144)
    }
}
