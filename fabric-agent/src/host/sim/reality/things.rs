//! What a simulated host has: its guests and its volumes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weft_metering::{Moment, Run};
use weft_model::{
    DiskLimits, GuestSize, InterfaceId, LayerId, LinkName, Maxima, PoolName, SecretId, Throttle,
    Throttles, Timestamp, VolumeId,
};

use crate::host::sim::behaviour::Behaviour;

/// What is there of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::host::sim) struct Guest {
    /// Whether a step has begun to write a file of it.
    #[serde(default)]
    pub(in crate::host::sim) folder: bool,
    pub(in crate::host::sim) root_disk: bool,
    /// What the guest sees of it, in bytes.
    #[serde(default)]
    pub(in crate::host::sim) root_bytes: u64,
    pub(in crate::host::sim) seed: bool,
    pub(in crate::host::sim) state: State,
    pub(in crate::host::sim) behaviour: Behaviour,
    /// Whether its memory was saved.
    #[serde(default)]
    pub(in crate::host::sim) memory: bool,
    /// Whether its file systems are frozen.
    #[serde(default)]
    pub(in crate::host::sim) frozen: bool,
    /// The launch that booted what runs, or is saved.
    #[serde(default)]
    pub(in crate::host::sim) booted_by: u64,
    /// What its owner called it at the last step that said so.
    #[serde(default)]
    pub(in crate::host::sim) name: Option<String>,
    /// The network interfaces that the guest was started with, and those that came later.
    #[serde(default)]
    pub(in crate::host::sim) nics: BTreeSet<InterfaceId>,
    /// The same of volumes.
    #[serde(default)]
    pub(in crate::host::sim) volumes: BTreeSet<VolumeId>,
    /// What its hypervisor keeps its root disk to.
    #[serde(default)]
    pub(in crate::host::sim) root_limits: DiskLimits,
    /// The same of volumes; one that is not here has no limits.
    #[serde(default)]
    pub(in crate::host::sim) volume_limits: BTreeMap<VolumeId, DiskLimits>,
    /// What its root disk was sealed into, bottom to top.
    #[serde(default)]
    pub(in crate::host::sim) layers: Vec<LayerId>,
    /// Their taps.
    #[serde(default)]
    pub(in crate::host::sim) links: BTreeMap<InterfaceId, LinkName>,
    /// The size of the last guest.
    #[serde(default)]
    pub(in crate::host::sim) vcpus: u32,
    #[serde(default)]
    pub(in crate::host::sim) memory_mib: u32,
    /// How far it may grow.
    #[serde(default)]
    pub(in crate::host::sim) maxima: Maxima,
    /// MiB that were put into slots of its machine since it was booted.
    #[serde(default)]
    pub(in crate::host::sim) slots: BTreeMap<u8, u32>,
    /// How big a guest its limits are of; none before they were raised.
    #[serde(default)]
    pub(in crate::host::sim) may_take: Option<GuestSize>,
    /// Whether the last guest was started with a display.
    #[serde(default)]
    pub(in crate::host::sim) display: bool,
    /// From when to when the last guest ran: what a holder writes down.
    #[serde(default)]
    pub(in crate::host::sim) started: Option<Moment>,
    #[serde(default)]
    pub(in crate::host::sim) ended: Option<Moment>,
}

impl Guest {
    /// Whether anything of it takes room.
    pub(in crate::host::sim) fn has_folder(&self) -> bool {
        self.folder || self.root_disk || self.seed
    }

    /// What a hypervisor tells of its disks.
    pub(in crate::host::sim) fn throttles(&self) -> Throttles {
        let of = |id: &VolumeId| self.volume_limits.get(id).copied().unwrap_or_default();
        let volumes = self.volumes.iter().map(|id| (id.clone(), Throttle::Limits(of(id))));
        Throttles { root: Some(Throttle::Limits(self.root_limits)), volumes: volumes.collect() }
    }

    /// What metering is told.
    pub(in crate::host::sim) fn run(&self) -> Run {
        match (&self.state, &self.started) {
            (State::Absent, _) | (_, None) => Run::Nothing,
            (
                State::Running { .. } | State::Saving { .. } | State::Loaded { .. },
                Some(started),
            ) => Run::Running { started: started.clone() },
            (_, Some(started)) => Run::Over { started: started.clone(), ended: self.ended.clone() },
        }
    }
}

/// A volume's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::host::sim) struct Volume {
    pub(in crate::host::sim) pool: PoolName,
    /// What a guest sees, in bytes.
    pub(in crate::host::sim) size_bytes: u64,
    /// What it lies over, bottom to top.
    #[serde(default)]
    pub(in crate::host::sim) layers: Vec<LayerId>,
    /// What encrypts it: who opens it needs this one.
    #[serde(default)]
    pub(in crate::host::sim) secret: Option<SecretId>,
}

/// A simulated hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(in crate::host::sim) enum State {
    #[default]
    Absent,
    Running {
        epoch: u64,
        since: Timestamp,
    },
    PoweredOff {
        epoch: u64,
    },
    Panicked {
        epoch: u64,
    },
    /// Its memory is being written.
    Saving {
        epoch: u64,
    },
    /// Its memory was read back.
    Loaded {
        epoch: u64,
    },
    Exited {
        epoch: u64,
        how: String,
    },
}
