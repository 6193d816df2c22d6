//! How big a guest that runs is, and what makes it bigger.
//!
//! QEMU is asked what there is: processors have places that it counts, modules of memory are called
//! after their slots. Commands: `query-hotpluggable-cpus`, `query-memory-devices`,
//! `query-memory-size-summary` in QEMU `qapi/machine.json`; `object-add` in `qapi/qom.json`.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use weft_model::{GuestSize, InstanceId, Maxima};

use super::devices::Devices;
use super::{GuestError, Guests};
use crate::cgroup::Limits;
use crate::layout;
use crate::qemu::{Accel, GuestParts, MemoryPart, VcpuPart};

/// What a specification says that bears on growth, in every version of the agent.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct SizeKey {
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u32,
    #[serde(default)]
    pub(crate) maxima: Maxima,
    accel: Accel,
}

/// How big a guest that has room to grow is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrownSize {
    /// All that it has.
    pub size: GuestSize,
    /// The slots with memory that came later.
    pub slots: BTreeSet<u8>,
}

impl Guests {
    /// How big a guest that runs is; `None` where it has no room to grow, and is as it was started.
    ///
    /// # Errors
    /// It does not run, or QEMU does not answer.
    pub async fn grown_size(&self, id: &InstanceId) -> Result<Option<GrownSize>, GuestError> {
        if !self.size_key(id)?.is_some_and(|key| key.maxima.is_set()) {
            return Ok(None);
        }
        let devices = Devices::of(self, id).await?;
        let places = devices.execute("query-hotpluggable-cpus", json!({})).await?;
        let memory = devices.execute("query-memory-size-summary", json!({})).await?;
        let names = devices.names().await?;
        let slots = names.iter().filter_map(|name| MemoryPart::slot_of(name)).collect();
        Ok(Some(GrownSize { size: size_of(&places, &memory), slots }))
    }

    /// Lets the processes of a guest that runs take what a guest of this size may; they may have
    /// less than that now.
    ///
    /// # Errors
    /// It does not run, or its control group cannot be changed.
    pub async fn raise_limits(
        &self,
        id: &InstanceId,
        size: GuestSize,
        display: bool,
    ) -> Result<(), GuestError> {
        let not_running = || GuestError::NotRunning { id: id.clone() };
        let guest = self.live_guest(id)?.ok_or_else(not_running)?;
        let key = self.size_key(id)?.ok_or_else(not_running)?;
        let (inner, owner) = (self.inner.clone(), id.clone());
        let limits = Limits::new(key.accel, size, display);
        let raised =
            tokio::task::spawn_blocking(move || inner.cgroups.set(&owner, guest.qemu.pid, &limits));
        let (id, step) = (id.clone(), "raise the limits of its control group");
        match raised.await {
            Ok(raised) => raised.map_err(|source| GuestError::Cgroup { id, step, source }),
            Err(error) => {
                Err(GuestError::Prepare { id, step, source: std::io::Error::other(error) })
            }
        }
    }

    /// Gives a guest that runs processors until it has `vcpus`. As many already is success.
    ///
    /// # Errors
    /// It does not run, has no more places, or QEMU refused.
    pub async fn add_vcpus(&self, id: &InstanceId, vcpus: u32) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        let places = devices.execute("query-hotpluggable-cpus", json!({})).await?;
        let missing = vcpus.saturating_sub(count(&places));
        let missing = usize::try_from(missing).unwrap_or(usize::MAX);
        let free = in_order(&places, |place| place["qom-path"].is_null());
        if free.len() < missing {
            return Err(GuestError::NoPlace { id: id.clone(), vcpus });
        }
        for part in free.iter().take(missing) {
            devices.execute("device_add", part.device()).await?;
            weft_crash_points::point("guest.add_vcpus.added");
        }
        Ok(())
    }

    /// Gives a guest that runs more memory, into a slot. A slot that is taken already is success.
    ///
    /// # Errors
    /// It does not run, has no such slot or no room for so much, or QEMU refused.
    pub async fn add_memory(&self, id: &InstanceId, slot: u8, mib: u32) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        if devices.names().await?.contains(&MemoryPart::name_in(slot)) {
            return Ok(());
        }
        let part = MemoryPart { slot, mib, address: None };
        // What an earlier attempt left may be of another size.
        let backend = json!({ "id": MemoryPart::backend_in(slot) });
        devices.execute_or_not("object-del", backend.clone()).await?;
        devices.execute("object-add", part.backend()).await?;
        weft_crash_points::point("guest.add_memory.backed");
        let added = devices.execute("device_add", part.device()).await;
        if added.is_err() {
            // The first error is the one to tell.
            let _ = devices.execute_or_not("object-del", backend).await;
        }
        added.map(|_| ())
    }

    /// What a guest that runs has besides what it booted with.
    pub(super) async fn parts(&self, devices: &Devices<'_>) -> Result<GuestParts, GuestError> {
        let places = devices.execute("query-hotpluggable-cpus", json!({})).await?;
        let named = |place: &Value| {
            let path = place["qom-path"].as_str().unwrap_or_default();
            path.starts_with(super::devices::NAMED_DEVICES)
        };
        let memory = devices.execute("query-memory-devices", json!({})).await?;
        let memory = memory.as_array().into_iter().flatten();
        let mut memory: Vec<_> = memory.filter_map(|device| module_of(&device["data"])).collect();
        memory.sort_by_key(|part| part.slot);
        Ok(GuestParts { vcpus: in_order(&places, named), memory })
    }

    pub(super) fn size_key(&self, id: &InstanceId) -> Result<Option<SizeKey>, GuestError> {
        self.read(id, layout::SPEC)
    }
}

/// How many processors there are.
fn count(places: &Value) -> u32 {
    let there = places.as_array().into_iter().flatten().filter(|it| it["qom-path"].is_string());
    let each = |place: &Value| place["vcpus-count"].as_u64().unwrap_or(1);
    u32::try_from(there.map(each).sum::<u64>()).unwrap_or(u32::MAX)
}

/// From QEMU's answers to `query-hotpluggable-cpus` and `query-memory-size-summary`.
fn size_of(places: &Value, memory: &Value) -> GuestSize {
    let bytes = |name: &str| memory[name].as_u64().unwrap_or_default();
    let mib = bytes("base-memory").saturating_add(bytes("plugged-memory")) >> 20;
    let memory_mib = u32::try_from(mib).unwrap_or(u32::MAX);
    GuestSize { vcpus: count(places), memory_mib }
}

/// Some of the places for processors, from the first one on: QEMU tells them from the last.
fn in_order(places: &Value, which: impl Fn(&Value) -> bool) -> Vec<VcpuPart> {
    let part = |place: &Value| {
        let numbers = place["props"].as_object()?.iter();
        let numbers = numbers.filter_map(|(name, value)| {
            Some((name.clone(), value.as_u64().and_then(|value| u32::try_from(value).ok())?))
        });
        let driver = place["type"].as_str()?.to_owned();
        Some(VcpuPart { driver, place: numbers.collect() })
    };
    let wanted = places.as_array().into_iter().flatten().filter(|place| which(place));
    let mut parts: Vec<_> = wanted.filter_map(part).collect();
    parts.sort_by_key(VcpuPart::core);
    parts
}

/// From a `PCDIMMDeviceInfo`; nothing where it is none of ours.
fn module_of(told: &Value) -> Option<MemoryPart> {
    let slot = MemoryPart::slot_of(told["id"].as_str()?)?;
    let mib = u32::try_from(told["size"].as_u64()? >> 20).ok()?;
    Some(MemoryPart { slot, mib, address: told["addr"].as_u64() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As QEMU 10.0 tells it of a guest with four places, booted with one processor, given one.
    fn places() -> Value {
        let place = |core: u32, path: Option<&str>| {
            let mut place = json!({
                "props": { "core-id": core, "thread-id": 0, "node-id": 0, "socket-id": 0 },
                "vcpus-count": 1,
                "type": "max-x86_64-cpu",
            });
            if let Some(path) = path {
                place["qom-path"] = Value::from(path);
            }
            place
        };
        json!([
            place(3, None),
            place(2, None),
            place(1, Some("/machine/peripheral/vcpu1")),
            place(0, Some("/machine/unattached/device[0]")),
        ])
    }

    #[test]
    fn a_guest_is_as_big_as_qemu_says() {
        let memory = json!({ "base-memory": 256 << 20, "plugged-memory": 128 << 20 });
        let size = GuestSize { vcpus: 2, memory_mib: 384 };
        assert_eq!(size_of(&places(), &memory), size);
        // One that has had none plugged.
        let memory = json!({ "base-memory": 256 << 20 });
        assert_eq!(size_of(&places(), &memory).memory_mib, 256);
    }

    #[test]
    fn free_places_are_taken_from_the_first_one_on() {
        let free = in_order(&places(), |place| place["qom-path"].is_null());
        assert_eq!(free.iter().map(VcpuPart::core).collect::<Vec<_>>(), [2, 3]);
        let device = free[0].device();
        assert_eq!(device["driver"], "max-x86_64-cpu");
        assert_eq!((&device["id"], &device["core-id"]), (&json!("vcpu2"), &json!(2)));
        assert_eq!(device["socket-id"], 0);
    }

    #[test]
    fn a_module_is_known_by_its_slot_and_found_where_it_was() {
        let told = json!({
            "id": "dimm3", "size": 256 << 20, "addr": 0x1_0000_0000_u64, "slot": 3, "node": 0,
            "memdev": "/objects/memory3", "hotplugged": true, "hotpluggable": true,
        });
        let part = module_of(&told).unwrap();
        assert_eq!(part, MemoryPart { slot: 3, mib: 256, address: Some(1 << 32) });
        assert_eq!(part.device()["addr"], 1_u64 << 32);
        assert_eq!(part.backend()["size"], 256 << 20);
        assert_eq!(module_of(&json!({ "id": "else", "size": 1 })), None);
    }
}
