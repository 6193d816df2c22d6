//! How much of its host's storage a disk may use.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::{Problem, VolumeId};

/// Operations per second that a disk can be limited to: from the least of EC2's `io1` to the most of
/// its `io2`.
pub const DISK_IOPS: RangeInclusive<u32> = 100..=256_000;

/// MiB (2^20 bytes) per second that a disk can be limited to.
pub const DISK_MIBPS: RangeInclusive<u32> = 1..=10_000;

/// What a disk may do each second, reads and writes together.
///
/// What is set is what there is, as with EC2's `gp3` and `io2`: no credits are saved up, only a tenth
/// of a second's worth may come at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLimits {
    /// Operations; one of more than [`Self::OPERATION_BYTES`] counts as several. `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<u32>,
    /// MiB. `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_mibps: Option<u32>,
}

impl DiskLimits {
    /// The most that counts as one operation, as with EC2's disks of flash: 256 KiB.
    pub const OPERATION_BYTES: u64 = 256 << 10;

    /// These limits, where a disk can have them; `disk` is what its attributes are in, such as
    /// `root_volume.`, or nothing.
    ///
    /// # Errors
    /// A [`Problem`] at `iops` or `throughput_mibps`.
    pub fn check(self, disk: &str) -> Result<Self, Problem> {
        let among = |name: &str, value: Option<u32>, range: RangeInclusive<u32>, unit: &str| {
            let Some(value) = value.filter(|value| !range.contains(value)) else { return Ok(()) };
            let message = format!("{value} {unit} is no limit of a disk");
            Err(Problem::invalid(format!("{disk}{name}"), message).remedy(format!(
                "use {} to {}, or leave {name} out for no limit",
                range.start(),
                range.end()
            )))
        };
        among("iops", self.iops, DISK_IOPS, "operations per second")?;
        among("throughput_mibps", self.throughput_mibps, DISK_MIBPS, "MiB/s")?;
        Ok(self)
    }
}

impl std::fmt::Display for DiskLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.iops, self.throughput_mibps) {
            (None, None) => f.write_str("none"),
            (Some(iops), None) => write!(f, "{iops} IOPS"),
            (None, Some(mibps)) => write!(f, "{mibps} MiB/s"),
            (Some(iops), Some(mibps)) => write!(f, "{iops} IOPS, {mibps} MiB/s"),
        }
    }
}

/// What a hypervisor keeps a disk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// These limits, none of them perhaps.
    Limits(DiskLimits),
    /// Something that the agent does not set.
    Foreign,
}

/// What a guest's hypervisor keeps its disks to; nothing where that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttles {
    /// The root disk.
    pub root: Option<Throttle>,
    /// Each volume that the guest has.
    pub volumes: BTreeMap<VolumeId, Throttle>,
}

impl Throttles {
    /// What this disk is kept to; `None` is the root disk.
    pub fn of(&self, volume: Option<&VolumeId>) -> Option<Throttle> {
        match volume {
            None => self.root,
            Some(id) => self.volumes.get(id).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_limited_within_bounds_or_not_at_all() {
        #[rustfmt::skip]
        let cases = [
            (None,          None,         None),
            (Some(100),     Some(1),      None),
            (Some(256_000), Some(10_000), None),
            (Some(99),      None,         Some("root_volume.iops")),
            (Some(256_001), Some(1),      Some("root_volume.iops")),
            (Some(100),     Some(0),      Some("root_volume.throughput_mibps")),
            (None,          Some(10_001), Some("root_volume.throughput_mibps")),
        ];
        for (iops, throughput_mibps, field) in cases {
            let found = DiskLimits { iops, throughput_mibps }.check("root_volume.");
            let at = found.err().map(|problem| problem.field.unwrap_or_default());
            assert_eq!(at.as_deref(), field, "{iops:?} {throughput_mibps:?}");
        }
    }

    #[test]
    fn limits_are_told_in_units() {
        let show = |iops, throughput_mibps| DiskLimits { iops, throughput_mibps }.to_string();
        assert_eq!(show(None, None), "none");
        assert_eq!(show(Some(200), None), "200 IOPS");
        assert_eq!(show(Some(200), Some(3)), "200 IOPS, 3 MiB/s");
    }
}
