//! The families of `/metrics`: names with their units, as `docs/guides/monitoring.md` lists them.

use weft_model::{HostFacts, PoolName};

use super::exposition::{Family, number, page};
use super::{AgentFigures, Sample, Samples};
use crate::host::pools::Room;
use crate::repo::StoreFigures;

/// What the page is made of besides the samples.
pub(super) struct OfAgent<'a> {
    pub(super) figures: &'a AgentFigures,
    pub(super) store: &'a StoreFigures,
    pub(super) host: &'a HostFacts,
    pub(super) free_memory_mib: u64,
    pub(super) free_vcpus: u32,
    /// Of the storage pools that are there.
    pub(super) pools: Vec<(PoolName, Room)>,
}

/// Bytes of MiB.
fn mib(count: u64) -> f64 {
    number(count.saturating_mul(1 << 20))
}

/// All of the page.
pub(super) fn render(samples: &Samples, agent: &OfAgent<'_>) -> String {
    let mut families = instances(samples);
    families.extend(of_agent(agent));
    page(&families)
}

/// Milliseconds in seconds.
fn seconds(ms: u64) -> f64 {
    number(ms) / 1000.0
}

fn instances(samples: &Samples) -> Vec<Family> {
    let mut state =
        Family::gauge("weft_instance_state", "1 for the state that the instance is in.");
    let mut vcpus = Family::gauge("weft_instance_vcpus", "Virtual processors of the instance.");
    let mut memory =
        Family::gauge("weft_instance_memory_bytes", "Memory of the instance, in bytes.");
    let mut cpu = Family::counter(
        "weft_instance_cpu_seconds_total",
        "Processor time of the running guest and what emulates its devices, in seconds, since it started.",
    );
    let mut resident = Family::gauge(
        "weft_instance_memory_resident_bytes",
        "Memory of the host that the guest's hypervisor has, in bytes.",
    );
    let mut total = Family::gauge(
        "weft_instance_guest_memory_total_bytes",
        "Memory that the guest's kernel manages, in bytes; the guest's own word.",
    );
    let mut available = Family::gauge(
        "weft_instance_guest_memory_available_bytes",
        "Memory that programs in the guest could still have, in bytes; the guest's own word.",
    );
    let disk = |name, help| Family::counter(name, help);
    let mut read =
        disk("weft_instance_disk_read_bytes_total", "Bytes that the guest read from the disk.");
    let mut written =
        disk("weft_instance_disk_written_bytes_total", "Bytes that the guest wrote to the disk.");
    let mut reads =
        disk("weft_instance_disk_reads_total", "Read requests of the guest to the disk.");
    let mut writes =
        disk("weft_instance_disk_writes_total", "Write requests of the guest to the disk.");
    let net = |name, help| Family::counter(name, help);
    let mut sent = net("weft_instance_network_sent_bytes_total", "Bytes that the guest sent.");
    let mut received =
        net("weft_instance_network_received_bytes_total", "Bytes that the guest was sent.");
    let mut sent_packets =
        net("weft_instance_network_sent_packets_total", "Packets that the guest sent.");
    let mut received_packets =
        net("weft_instance_network_received_packets_total", "Packets that the guest was sent.");

    for Sample { record, state: now, figures } in &samples.all {
        let name = record.spec.name.as_ref().map(ToString::to_string).unwrap_or_default();
        let id = [("instance_id", record.id.as_str()), ("name", name.as_str())];
        let with = |label| [id[0], id[1], label];
        state.add(&with(("state", now.as_str())), 1.0);
        vcpus.add(&id, f64::from(record.spec.vcpus));
        memory.add(&id, mib(record.spec.memory_mib.into()));
        let Some(figures) = figures else { continue };
        cpu.add(&id, seconds(figures.cpu_ms));
        resident.add(&id, number(figures.resident_bytes));
        if let Some(said) = figures.memory {
            said.total_bytes.into_iter().for_each(|bytes| total.add(&id, number(bytes)));
            said.available_bytes.into_iter().for_each(|bytes| available.add(&id, number(bytes)));
        }
        for (disk, counters) in &figures.disks {
            let id = with(("disk", disk.as_str()));
            read.add(&id, number(counters.read_bytes));
            written.add(&id, number(counters.written_bytes));
            reads.add(&id, number(counters.reads));
            writes.add(&id, number(counters.writes));
        }
        for (interface, counters) in &figures.interfaces {
            let id = with(("interface_id", interface.as_str()));
            sent.add(&id, number(counters.sent_bytes));
            received.add(&id, number(counters.received_bytes));
            sent_packets.add(&id, number(counters.sent_packets));
            received_packets.add(&id, number(counters.received_packets));
        }
    }
    vec![
        state,
        vcpus,
        memory,
        cpu,
        resident,
        total,
        available,
        read,
        written,
        reads,
        writes,
        sent,
        received,
        sent_packets,
        received_packets,
    ]
}

fn of_agent(agent: &OfAgent<'_>) -> Vec<Family> {
    let OfAgent { figures, store, host, free_memory_mib, free_vcpus, pools } = agent;
    let mut info = Family::gauge("weft_agent_info", "1; the labels say what runs.");
    let accelerator = host.accelerator.as_str();
    info.add(&[("version", env!("CARGO_PKG_VERSION")), ("accelerator", accelerator)], 1.0);
    let gauge = |name, help, value| {
        let mut family = Family::gauge(name, help);
        family.add(&[], value);
        family
    };
    let counter = |name, help, value| {
        let mut family = Family::counter(name, help);
        family.add(&[], value);
        family
    };
    let mut requests = Family::counter(
        "weft_agent_requests_total",
        "Requests to the API by method and gRPC status code (0 is success).",
    );
    for ((method, code), count) in figures.requests() {
        requests.add(&[("method", &method), ("code", &code.to_string())], number(count));
    }
    let mut passes = Family::counter(
        "weft_agent_passes_total",
        "Passes over instances: done, waiting, or failed and to be tried again.",
    );
    for (outcome, count) in figures.passes() {
        passes.add(&[("outcome", outcome.as_str())], number(count));
    }
    let mut pool_size = Family::gauge(
        "weft_pool_size_bytes",
        "Size of the file system that the storage pool is in, in bytes.",
    );
    let mut pool_free = Family::gauge(
        "weft_pool_free_bytes",
        "Free room of the file system that the storage pool is in, in bytes.",
    );
    for (name, room) in pools {
        pool_size.add(&[("pool", name.as_str())], number(room.size_bytes));
        pool_free.add(&[("pool", name.as_str())], number(room.free_bytes));
    }
    let (transactions, failures, micros) = store.get();
    let free_memory = mib(*free_memory_mib);
    vec![
        info,
        gauge("weft_host_vcpus", "Processors of the host.", f64::from(host.vcpus)),
        gauge(
            "weft_host_free_vcpus",
            "Processors that no instance is given.",
            f64::from(*free_vcpus),
        ),
        gauge(
            "weft_host_memory_bytes",
            "Memory that guests may have, in bytes.",
            mib(host.memory_mib),
        ),
        gauge(
            "weft_host_free_memory_bytes",
            "Memory that no instance takes, in bytes.",
            free_memory,
        ),
        pool_size,
        pool_free,
        requests,
        passes,
        counter(
            "weft_agent_store_transactions_total",
            "Transactions of the store, also those whose conditions did not hold.",
            number(transactions),
        ),
        counter(
            "weft_agent_store_failures_total",
            "Transactions that the store failed to carry out.",
            number(failures),
        ),
        counter(
            "weft_agent_store_transaction_seconds_total",
            "Time that transactions of the store took in all, in seconds.",
            number(micros) / 1_000_000.0,
        ),
    ]
}
