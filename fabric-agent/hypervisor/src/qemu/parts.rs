//! Processors and memory that a guest was given while it ran: QEMU's devices for them.
//!
//! Commands and devices: QEMU `qapi/machine.json`, `docs/system/cpu-hotplug.rst`,
//! `docs/memory-hotplug.txt`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a guest has besides what it booted with, in the order in which it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestParts {
    /// Processors.
    pub vcpus: Vec<VcpuPart>,
    /// Memory.
    pub memory: Vec<MemoryPart>,
}

impl GuestParts {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.vcpus.is_empty() && self.memory.is_empty()
    }
}

/// One processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VcpuPart {
    /// QEMU's type of it, such as `host-x86_64-cpu`.
    pub driver: String,
    /// Its place: socket, core, thread, and whatever else this QEMU tells apart.
    pub place: BTreeMap<String, u32>,
}

impl VcpuPart {
    /// Its place among the processors: there is one socket, and each has one thread.
    pub(crate) fn core(&self) -> u32 {
        self.place.get("core-id").copied().unwrap_or_default()
    }

    /// What QEMU calls it.
    pub(crate) fn name(&self) -> String {
        format!("vcpu{}", self.core())
    }

    /// The device, for `device_add` and `-device`.
    pub(crate) fn device(&self) -> Value {
        let mut device = json!({ "driver": self.driver, "id": self.name() });
        for (name, value) in &self.place {
            device[name] = Value::from(*value);
        }
        device
    }
}

/// One module of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPart {
    /// The slot that it is in.
    pub slot: u8,
    /// Its size in MiB.
    pub mib: u32,
    /// Where the guest has it; `None` leaves that to QEMU.
    pub address: Option<u64>,
}

impl MemoryPart {
    /// What QEMU calls the module in a slot.
    pub(crate) fn name_in(slot: u8) -> String {
        format!("dimm{slot}")
    }

    /// The slot of a module that QEMU calls so.
    pub(crate) fn slot_of(name: &str) -> Option<u8> {
        name.strip_prefix("dimm")?.parse().ok()
    }

    /// What QEMU calls what is behind the module in a slot.
    pub(crate) fn backend_in(slot: u8) -> String {
        format!("memory{slot}")
    }

    /// What is behind it, for `object-add` and `-object`.
    pub(crate) fn backend(&self) -> Value {
        json!({
            "qom-type": "memory-backend-ram",
            "id": Self::backend_in(self.slot),
            "size": u64::from(self.mib) << 20,
        })
    }

    /// The device, for `device_add` and `-device`.
    pub(crate) fn device(&self) -> Value {
        let mut device = json!({
            "driver": "pc-dimm",
            "id": Self::name_in(self.slot),
            "memdev": Self::backend_in(self.slot),
            "slot": self.slot,
        });
        if let Some(address) = self.address {
            device["addr"] = Value::from(address);
        }
        device
    }
}
