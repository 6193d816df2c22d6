//! What a guest uses: processor time and memory of its process, what QEMU counts of its disks, and
//! what the guest itself says of its memory.
//!
//! Commands: `query-blockstats` (QEMU `qapi/block-core.json`); the balloon's `guest-stats` and
//! `guest-stats-polling-interval` (QEMU `docs/interop/virtio-balloon-stats.rst`).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_model::{DiskCounters, GuestFigures, GuestMemory, InstanceId};

use super::devices::{NAMED_DEVICES, device_of};
use super::{ANSWER_DEADLINE, GuestError, Guests};
use crate::qemu::BALLOON_DEVICE;
use crate::qmp::{QmpClient, QmpError};

/// How often QEMU asks the guest for its memory figures, in seconds.
const POLL_SECONDS: u32 = 5;
/// What a driver says that does not know a figure: `(uint64_t)-1`.
const UNKNOWN: u64 = u64::MAX;

impl Guests {
    /// What the guest uses now, without its links; nothing where none runs.
    ///
    /// # Errors
    /// A record cannot be read, or QEMU does not answer.
    pub async fn figures(&self, id: &InstanceId) -> Result<Option<GuestFigures>, GuestError> {
        let Some(guest) = self.live_guest(id)? else { return Ok(None) };
        let Some(usage) = guest.qemu.usage() else { return Ok(None) };
        let failed = |command| move |source| GuestError::Qmp { id: id.clone(), command, source };
        let client = self.client(id, &guest).await.map_err(failed("query-blockstats"))?;
        let stats = client.execute("query-blockstats", None, ANSWER_DEADLINE).await;
        let disks = disks(&stats.map_err(failed("query-blockstats"))?);
        let memory = match memory(&client).await {
            // Guests of older agents have no balloon; that is no failure.
            Err(QmpError::Refused { .. }) => None,
            other => other.map_err(failed("qom-get"))?,
        };
        Ok(Some(GuestFigures {
            cpu_ms: usage.cpu_ms,
            resident_bytes: usage.resident_bytes,
            memory,
            disks,
            interfaces: BTreeMap::new(),
        }))
    }
}

/// Asks what the guest said last, and has QEMU go on asking it: setting the same interval again
/// changes nothing (`balloon_stats_set_poll_interval` in QEMU `hw/virtio/virtio-balloon.c`).
async fn memory(client: &QmpClient) -> Result<Option<GuestMemory>, QmpError> {
    let path = format!("{NAMED_DEVICES}/{BALLOON_DEVICE}");
    let poll = json!({
        "path": path, "property": "guest-stats-polling-interval", "value": POLL_SECONDS,
    });
    client.execute("qom-set", Some(poll), ANSWER_DEADLINE).await?;
    let get = json!({ "path": path, "property": "guest-stats" });
    Ok(guest_memory(&client.execute("qom-get", Some(get), ANSWER_DEADLINE).await?))
}

/// Nothing where the guest has said nothing yet.
fn guest_memory(answer: &Value) -> Option<GuestMemory> {
    if answer.get("last-update").and_then(Value::as_u64)? == 0 {
        return None;
    }
    let stats = answer.get("stats")?;
    let known = |name| stats.get(name).and_then(Value::as_u64).filter(|value| *value != UNKNOWN);
    let said = GuestMemory {
        total_bytes: known("stat-total-memory"),
        available_bytes: known("stat-available-memory"),
    };
    (said != GuestMemory::default()).then_some(said)
}

/// By the device's name. Disks without one are called after their node.
fn disks(answer: &Value) -> BTreeMap<String, DiskCounters> {
    let disk = |entry: &Value| {
        let text = |name| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let name = device_of(entry).or_else(|| text("node-name"))?;
        let stats = entry.get("stats")?;
        let count = |name| stats.get(name).and_then(Value::as_u64).unwrap_or(0);
        let counters = DiskCounters {
            read_bytes: count("rd_bytes"),
            written_bytes: count("wr_bytes"),
            reads: count("rd_operations"),
            writes: count("wr_operations"),
        };
        // What no device of the guest's stands for is a layer, or a file below one.
        text("qdev").map(|_| (name.to_owned(), counters))
    };
    answer.as_array().into_iter().flatten().filter_map(disk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_called_after_their_devices() {
        let stats =
            json!({ "rd_bytes": 512, "wr_bytes": 1024, "rd_operations": 1, "wr_operations": 2 });
        let answer = json!([
            { "device": "", "qdev": "/machine/peripheral/root/virtio-backend", "node-name": "root",
              "stats": stats },
            { "device": "", "qdev": "/machine/peripheral-anon/device[2]/virtio-backend",
              "node-name": "seed", "stats": {} },
            { "node-name": "root-layer0", "stats": stats },
            { "device": "", "qdev": "vol-0123", "stats": stats },
        ]);
        let disks = disks(&answer);
        let names: Vec<&str> = disks.keys().map(String::as_str).collect();
        assert_eq!(names, ["root", "seed", "vol-0123"]);
        let want = DiskCounters { read_bytes: 512, written_bytes: 1024, reads: 1, writes: 2 };
        assert_eq!(disks["root"], want);
        assert_eq!(disks["seed"], DiskCounters::default());
    }

    #[test]
    fn a_guest_says_what_it_knows_of_its_memory() {
        let said = |last: u64, total: u64, available: u64| {
            guest_memory(&json!({
                "last-update": last,
                "stats": { "stat-total-memory": total, "stat-available-memory": available },
            }))
        };
        assert_eq!(said(0, 5, 5), None, "nothing was said yet");
        assert_eq!(said(9, UNKNOWN, UNKNOWN), None, "a driver without figures");
        let known = said(9, 1 << 30, UNKNOWN).unwrap();
        assert_eq!((known.total_bytes, known.available_bytes), (Some(1 << 30), None));
        assert_eq!(guest_memory(&json!({})), None);
    }
}
