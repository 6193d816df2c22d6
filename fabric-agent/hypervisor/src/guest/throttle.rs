//! What a guest's disks may do each second, as QEMU keeps them to it.
//!
//! The limit is of the device's own backend and not of a node, so it stays when the disk goes over to
//! another top (see [`super::seal`]), and can be set in a guest that was started without one.
//! Commands: `block_set_io_throttle`, `query-block` in QEMU `qapi/block-core.json`. Without a maximum
//! of its own each bucket holds a tenth of a second's worth (`throttle_compute_wait` in QEMU's
//! `util/throttle.c`).

use serde_json::{Value, json};
use weft_model::{DiskLimits, InstanceId, Throttle, Throttles};

use super::devices::{Devices, NAMED_DEVICES};
use super::seal::block_of;
use super::{GuestError, Guests};
use crate::qemu::ROOT_DEVICE;

/// What QEMU can limit besides, which the agent leaves at 0.
const OTHERS: [&str; 4] = ["bps_rd", "bps_wr", "iops_rd", "iops_wr"];
const MIB: u64 = 1 << 20;

impl Guests {
    /// What the disks of a guest that runs are kept to.
    ///
    /// # Errors
    /// It does not run, or QEMU does not answer.
    pub async fn throttles(&self, id: &InstanceId) -> Result<Throttles, GuestError> {
        let blocks = Devices::of(self, id).await?.execute("query-block", json!({})).await?;
        Ok(throttles_of(&blocks))
    }

    /// Has QEMU keep a disk to its limits, from now on; `device` is what QEMU calls it. Reads and
    /// writes that wait already go by the new limits.
    ///
    /// # Errors
    /// The guest does not run, has no such disk, or QEMU refused.
    pub async fn limit_disk(
        &self,
        id: &InstanceId,
        device: &str,
        limits: DiskLimits,
    ) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        let blocks = devices.execute("query-block", json!({})).await?;
        let no_disk = || GuestError::NoDisk { id: id.clone(), device: device.to_owned() };
        // A virtio disk's backend is its device's child: QEMU finds it by that path alone.
        let path = block_of(&blocks, device).and_then(|block| block["qdev"].as_str());
        let path = path.ok_or_else(no_disk)?;
        devices.execute("block_set_io_throttle", arguments(path, limits)).await?;
        weft_crash_points::point("guest.limit_disk.limited");
        Ok(())
    }
}

/// The arguments of `block_set_io_throttle`: what is 0 is not limited.
fn arguments(path: &str, limits: DiskLimits) -> Value {
    let DiskLimits { iops, throughput_mibps } = limits;
    let bytes = u64::from(throughput_mibps.unwrap_or_default()) * MIB;
    let mut arguments = json!({ "id": path, "iops": iops.unwrap_or_default(), "bps": bytes });
    for other in OTHERS {
        arguments[other] = Value::from(0);
    }
    if iops.is_some() {
        // QEMU takes it only beside operations.
        arguments["iops_size"] = Value::from(DiskLimits::OPERATION_BYTES);
    }
    arguments
}

/// From QEMU's answer to `query-block`.
fn throttles_of(blocks: &Value) -> Throttles {
    let named = |block: &Value| {
        let path = block["qdev"].as_str()?.strip_prefix(NAMED_DEVICES)?;
        let name = path.split('/').nth(1)?;
        Some((name.parse().ok()?, throttle_of(&block["inserted"])?))
    };
    Throttles {
        root: block_of(blocks, ROOT_DEVICE).and_then(|block| throttle_of(&block["inserted"])),
        volumes: blocks.as_array().into_iter().flatten().filter_map(named).collect(),
    }
}

/// From a `BlockDeviceInfo`; nothing where it is none.
fn throttle_of(inserted: &Value) -> Option<Throttle> {
    let number = |name: &str| inserted[name].as_u64();
    let (bytes, iops) = (number("bps")?, number("iops")?);
    let is_set = |value: u64| (value != 0).then_some(value);
    let small = |value: Option<u64>| value.map(u32::try_from).transpose().ok();
    // Those that end so are told only where there are limits.
    let bursts = ["bps_max", "iops_max", "bps_rd_max", "bps_wr_max", "iops_rd_max", "iops_wr_max"];
    let others = OTHERS.iter().chain(&bursts);
    let size = is_set(iops).map(|_| DiskLimits::OPERATION_BYTES);
    let is_ours = bytes % MIB == 0
        && others.filter_map(|name| number(name)).all(|value| value == 0)
        && number("iops_size").and_then(is_set) == size;
    let limits = match (small(is_set(iops)), small(is_set(bytes / MIB))) {
        (Some(iops), Some(throughput_mibps)) if is_ours => {
            Throttle::Limits(DiskLimits { iops, throughput_mibps })
        }
        _ => Throttle::Foreign,
    };
    Some(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As QEMU 10.0 tells it after `block_set_io_throttle` with these arguments.
    fn told(limits: DiskLimits) -> Value {
        let mut told = arguments("x", limits);
        told["group"] = Value::from("x");
        told
    }

    #[test]
    fn what_was_set_is_seen_and_what_was_not_is_foreign() {
        for iops in [None, Some(100), Some(256_000)] {
            for throughput_mibps in [None, Some(1), Some(10_000)] {
                let limits = DiskLimits { iops, throughput_mibps };
                assert_eq!(throttle_of(&told(limits)), Some(Throttle::Limits(limits)));
            }
        }
        let limits = DiskLimits { iops: Some(100), throughput_mibps: Some(1) };
        let foreign = [
            ("bps", 1_000_000_u64),
            ("bps_rd", 1 << 20),
            ("iops_wr", 7),
            ("iops_max", 1000),
            ("iops_size", 4096),
            ("iops", 1 << 33),
        ];
        for (name, value) in foreign {
            let mut told = told(limits);
            told[name] = Value::from(value);
            assert_eq!(throttle_of(&told), Some(Throttle::Foreign), "{name}");
        }
        assert_eq!(throttle_of(&json!({ "node-name": "x" })), None);
    }

    #[test]
    fn each_disk_is_told_apart() {
        let block = |qdev: &str, iops: u32| {
            let limits = DiskLimits { iops: Some(iops), throughput_mibps: None };
            json!({ "device": "", "qdev": qdev, "inserted": told(limits) })
        };
        let blocks = json!([
            block("/machine/peripheral-anon/device[9]/virtio-backend", 100),
            block("/machine/peripheral/root/virtio-backend", 200),
            block("/machine/peripheral/vol-0123456789abcdef0/virtio-backend", 300),
            { "device": "", "qdev": "/machine/peripheral/vol-0123456789abcdef1/virtio-backend" },
        ]);
        let limits =
            |iops| Throttle::Limits(DiskLimits { iops: Some(iops), throughput_mibps: None });
        let volumes = [("vol-0123456789abcdef0".parse().unwrap(), limits(300))].into();
        assert_eq!(throttles_of(&blocks), Throttles { root: Some(limits(200)), volumes });
    }
}
