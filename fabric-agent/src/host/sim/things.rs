//! What a simulated host has: its guests and its volumes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weft_metering::{Moment, Run};
use weft_model::{
    DiskLimits, GuestSize, InterfaceId, LayerId, LinkName, Maxima, PoolName, SecretId, Throttle,
    Throttles, Timestamp, VolumeId,
};

use super::behaviour::Behaviour;

/// What is there of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Guest {
    /// Whether a step has begun to write a file of it.
    #[serde(default)]
    pub(super) folder: bool,
    pub(super) root_disk: bool,
    /// What the guest sees of it, in bytes.
    #[serde(default)]
    pub(super) root_bytes: u64,
    pub(super) seed: bool,
    pub(super) state: State,
    pub(super) behaviour: Behaviour,
    /// Whether its memory was saved.
    #[serde(default)]
    pub(super) memory: bool,
    /// Whether its file systems are frozen.
    #[serde(default)]
    pub(super) frozen: bool,
    /// The launch that booted what runs, or is saved.
    #[serde(default)]
    pub(super) booted_by: u64,
    /// What its owner called it at the last step that said so.
    #[serde(default)]
    pub(super) name: Option<String>,
    /// The network interfaces that the guest was started with, and those that came later.
    #[serde(default)]
    pub(super) nics: BTreeSet<InterfaceId>,
    /// The same of volumes.
    #[serde(default)]
    pub(super) volumes: BTreeSet<VolumeId>,
    /// What its hypervisor keeps its root disk to.
    #[serde(default)]
    pub(super) root_limits: DiskLimits,
    /// The same of volumes; one that is not here has no limits.
    #[serde(default)]
    pub(super) volume_limits: BTreeMap<VolumeId, DiskLimits>,
    /// What its root disk was sealed into, bottom to top.
    #[serde(default)]
    pub(super) layers: Vec<LayerId>,
    /// Their taps.
    #[serde(default)]
    pub(super) links: BTreeMap<InterfaceId, LinkName>,
    /// The size of the last guest.
    #[serde(default)]
    pub(super) vcpus: u32,
    #[serde(default)]
    pub(super) memory_mib: u32,
    /// How far it may grow.
    #[serde(default)]
    pub(super) maxima: Maxima,
    /// MiB that were put into slots of its machine since it was booted.
    #[serde(default)]
    pub(super) slots: BTreeMap<u8, u32>,
    /// How big a guest its limits are of; none before they were raised.
    #[serde(default)]
    pub(super) may_take: Option<GuestSize>,
    /// Whether the last guest was started with a display.
    #[serde(default)]
    pub(super) display: bool,
    /// From when to when the last guest ran: what a holder writes down.
    #[serde(default)]
    pub(super) started: Option<Moment>,
    #[serde(default)]
    pub(super) ended: Option<Moment>,
}

impl Guest {
    /// Whether anything of it takes room.
    pub(super) fn has_folder(&self) -> bool {
        self.folder || self.root_disk || self.seed
    }

    /// What a hypervisor tells of its disks.
    pub(super) fn throttles(&self) -> Throttles {
        let of = |id: &VolumeId| self.volume_limits.get(id).copied().unwrap_or_default();
        let volumes = self.volumes.iter().map(|id| (id.clone(), Throttle::Limits(of(id))));
        Throttles { root: Some(Throttle::Limits(self.root_limits)), volumes: volumes.collect() }
    }

    /// What metering is told.
    pub(super) fn run(&self) -> Run {
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
pub(super) struct Volume {
    pub(super) pool: PoolName,
    /// What a guest sees, in bytes.
    pub(super) size_bytes: u64,
    /// What it lies over, bottom to top.
    #[serde(default)]
    pub(super) layers: Vec<LayerId>,
    /// What encrypts it: who opens it needs this one.
    #[serde(default)]
    pub(super) secret: Option<SecretId>,
}

/// A simulated hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum State {
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
