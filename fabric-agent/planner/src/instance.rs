//! One instance: from what the host has of it to what is wanted.

mod grow;
mod limits;
mod nics;
mod volumes;

use std::collections::BTreeSet;

use weft_model::{
    GuestNetwork, InstanceId, InstanceSpec, InstanceStatus, InterfaceId, PRIMARY_DEVICE_INDEX,
    PowerState, Record, Throttles, VolumeId,
};

use crate::{Action, GuestLaunch, GuestNic, SeedContent, SeedInterface};

pub use grow::SeenSize;
pub use nics::{AttachedNic, SeenNics};
pub use volumes::{AttachedVolume, SeenVolumes};

/// What is attached to an instance besides what it was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Its network interfaces besides the first one, by device index.
    pub nics: Vec<AttachedNic>,
    /// Its volumes, by their places.
    pub volumes: Vec<AttachedVolume>,
}

/// What should become of an instance now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A guest of this launch runs.
    Run {
        /// `run_epoch` of the specification.
        epoch: u64,
    },
    /// No guest runs; disks stay.
    Off,
    /// No guest runs; disks and the guest's memory stay.
    Hibernated,
    /// Nothing of it is left.
    Gone,
}

/// What is wanted of `record`, given what has happened to it.
///
/// A launch that has ended (the guest powered itself off, the hypervisor died) is not repeated
/// before a newer one is asked for, by people or by [`crate::restart`].
pub fn wanted(record: &Record<InstanceId, InstanceSpec>, status: &InstanceStatus) -> Wanted {
    let epoch = record.spec.run_epoch;
    if record.deleting_since.is_some() {
        Wanted::Gone
    } else if record.spec.power == PowerState::Stopped && record.spec.hibernate {
        Wanted::Hibernated
    } else if record.spec.power == PowerState::Stopped || status.ended_epoch >= epoch {
        Wanted::Off
    } else {
        Wanted::Run { epoch }
    }
}

/// A guest's process, as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GuestState {
    /// There is none, and nothing is left of one.
    #[default]
    Absent,
    /// The guest's processors run.
    Running {
        /// The launch it was started by.
        epoch: u64,
    },
    /// The guest shut itself down; the hypervisor waits.
    PoweredOff {
        /// The launch it was started by.
        epoch: u64,
    },
    /// The guest stands still: its memory is being saved, or was.
    Saving {
        /// The launch it was started by.
        epoch: u64,
        /// How far the hypervisor is.
        saving: Saving,
    },
    /// The guest stands still: its memory is being read back.
    Loading {
        /// The launch it was started by.
        epoch: u64,
    },
    /// The guest stands still: its memory was read back.
    Loaded {
        /// The launch it was started by.
        epoch: u64,
    },
    /// The guest's kernel panicked; the hypervisor has halted it.
    Panicked {
        /// The launch it was started by.
        epoch: u64,
    },
    /// The hypervisor has ended.
    Exited {
        /// The launch it was started by.
        epoch: u64,
        /// How, for people.
        how: String,
    },
}

impl GuestState {
    /// Whether the hypervisor has the guest's disks, and neither runs it nor can be asked to do
    /// anything else with them: its memory is on its way out, or in.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Saving { .. } | Self::Loading { .. } | Self::Loaded { .. })
    }
}

/// How far the saving of a guest's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saving {
    /// It was begun; the hypervisor has not been told.
    Begun,
    /// The hypervisor writes.
    UnderWay,
    /// The hypervisor has written all of it, or has given up.
    Over,
}

/// What a host has of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenInstance {
    /// Whether there is a place for its files, be it empty: a seed that was not written to its end is
    /// in it, with the host key.
    pub folder: bool,
    /// Whether the root disk exists.
    pub root_disk: bool,
    /// Whether a guest of the instance has ever run: then there was a root disk.
    pub has_run: bool,
    /// Whether the guest's memory was saved, all of it.
    pub memory: bool,
    /// Whether the seed exists.
    pub seed: bool,
    /// Whether the seed is the one for the launch that is wanted.
    pub seed_is_current: bool,
    /// The guest's process and what it left.
    pub guest: GuestState,
    /// Whether the taps of all interfaces that stay exist, are open, and their groups enforced.
    pub network_ready: bool,
    /// Whether a tap of any interface, or any part of it, exists.
    pub tap: bool,
    /// The interfaces that the guest has.
    pub nics: SeenNics,
    /// Those that were taken from it in this pass.
    pub unplugged: BTreeSet<InterfaceId>,
    /// The volumes that the guest has.
    pub volumes: SeenVolumes,
    /// Those that were taken from it in this pass.
    pub unplugged_volumes: BTreeSet<VolumeId>,
    /// What its disks are kept to.
    pub throttles: Throttles,
    /// How big the guest is.
    pub size: SeenSize,
    /// Whether it was to be made bigger in this pass, and was not.
    pub not_grown: bool,
}

/// What to do next about one instance. After each step it is observed and planned again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceStep {
    /// Carry these out, one after the other.
    Do(Vec<Action>),
    /// Carry these out, all at once, while the network takes the interface in: none of it needs
    /// another.
    Prepare(Vec<Action>),
    /// Ask the guest to shut down, and look again; end it when its time is over.
    AwaitShutdown,
    /// The guest's memory is being written, or read: look again soon.
    AwaitMemory,
    /// The network has to take the interface in (or let it go) first.
    AwaitNetwork,
    /// No guest has these interfaces any more: their attachments can go.
    Release(Vec<InterfaceId>),
    /// The same of volumes.
    ReleaseVolumes(Vec<VolumeId>),
    /// It cannot be started before this volume's disk is there.
    AwaitVolume(VolumeId),
    /// Nothing is left on the host: the record can go.
    Forget,
    /// It cannot be started: its root disk, and all that was on it, is gone.
    DiskLost,
    /// It is as wanted.
    Rest,
}

/// Whether a guest that runs, or did until now, is to end before anything else is wanted of it.
pub fn is_to_end(wanted: Wanted, guest: &GuestState) -> bool {
    match (wanted, guest) {
        (Wanted::Run { epoch }, GuestState::Running { epoch: have }) => *have < epoch,
        (
            Wanted::Off | Wanted::Gone,
            GuestState::Running { .. }
            | GuestState::PoweredOff { .. }
            | GuestState::Panicked { .. },
        ) => true,
        _ => false,
    }
}

/// The next step from `seen` to what is wanted. `grace_over` says whether a guest that was asked to shut down has had
/// its time.
pub fn plan_instance(
    record: &Record<InstanceId, InstanceSpec>,
    network: Option<&GuestNetwork>,
    attached: &Attached,
    wanted: Wanted,
    seen: &SeenInstance,
    grace_over: bool,
) -> InstanceStep {
    let instance_id = || record.id.clone();
    let end = || InstanceStep::Do(vec![Action::EndGuest { instance_id: instance_id() }]);
    match (wanted, &seen.guest) {
        // A guest that should not run, or not as it is.
        (Wanted::Run { epoch }, GuestState::Running { epoch: have }) if *have >= epoch => {
            keep(record, attached, seen)
        }
        // A launch that has ended is reported as such first; then it is no longer wanted.
        (
            Wanted::Run { epoch },
            GuestState::PoweredOff { epoch: have }
            | GuestState::Panicked { epoch: have }
            | GuestState::Exited { epoch: have, .. },
        ) if *have >= epoch => InstanceStep::Rest,
        (Wanted::Hibernated, GuestState::Running { .. }) => hibernate(record),
        (Wanted::Gone, guest) if guest.is_away() => end(),
        (Wanted::Off, GuestState::Saving { .. }) if is_forced(record) => end(),
        // What was begun is carried to its end: a guest that stands still can do nothing else.
        (_, GuestState::Saving { saving: Saving::Begun, .. }) => hibernate(record),
        (_, GuestState::Saving { saving: Saving::UnderWay, .. }) => InstanceStep::AwaitMemory,
        (_, GuestState::Saving { saving: Saving::Over, .. }) => {
            InstanceStep::Do(vec![Action::KeepMemory { instance_id: instance_id() }])
        }
        (Wanted::Run { epoch }, GuestState::Loading { epoch: have }) if *have >= epoch => {
            InstanceStep::AwaitMemory
        }
        (Wanted::Run { epoch }, GuestState::Loaded { epoch: have }) if *have >= epoch => {
            InstanceStep::Do(vec![Action::ResumeGuest { instance_id: instance_id() }])
        }
        // Its memory is still in the file, so nothing is lost.
        (_, GuestState::Loading { .. } | GuestState::Loaded { .. })
            if seen.memory || is_forced(record) =>
        {
            end()
        }
        (_, GuestState::Loading { .. }) => InstanceStep::AwaitMemory,
        (_, GuestState::Loaded { .. }) => {
            InstanceStep::Do(vec![Action::ResumeGuest { instance_id: instance_id() }])
        }

        (_, GuestState::Running { .. }) if grace_over => end(),
        (_, GuestState::Running { .. }) => InstanceStep::AwaitShutdown,
        // It hears no power button any more.
        (_, GuestState::PoweredOff { .. } | GuestState::Panicked { .. }) => end(),

        (Wanted::Run { epoch }, GuestState::Absent | GuestState::Exited { .. }) => {
            release(attached, seen).unwrap_or_else(|| start(record, network, attached, epoch, seen))
        }
        // The record of how the last guest ended and its console stay for inspection.
        (Wanted::Off, GuestState::Absent | GuestState::Exited { .. })
            if seen.memory && is_forced(record) =>
        {
            InstanceStep::Do(vec![Action::ForgetMemory { instance_id: instance_id() }])
        }
        (Wanted::Off | Wanted::Hibernated, GuestState::Absent | GuestState::Exited { .. }) => {
            release(attached, seen).unwrap_or(InstanceStep::Rest)
        }

        (Wanted::Gone, GuestState::Absent) if seen.tap => InstanceStep::AwaitNetwork,
        (Wanted::Gone, GuestState::Absent) if seen.folder => {
            InstanceStep::Do(vec![Action::RemoveDisks { instance_id: instance_id() }])
        }
        (Wanted::Gone, GuestState::Absent) => InstanceStep::Forget,
        (Wanted::Gone, GuestState::Exited { .. }) => {
            InstanceStep::Do(vec![Action::ForgetGuest { instance_id: instance_id() }])
        }
    }
}

/// What is next for a guest that runs and goes on running. What comes is not kept waiting by what the
/// guest does not let go of, nor anything by a growth that the hypervisor refuses.
fn keep(
    record: &Record<InstanceId, InstanceSpec>,
    attached: &Attached,
    seen: &SeenInstance,
) -> InstanceStep {
    if let Some(plug) = volumes::plug(record, &attached.volumes, seen) {
        return plug;
    }
    if let Some(limit) = limits::keep(record, &attached.volumes, &seen.throttles) {
        return limit;
    }
    if !seen.not_grown
        && let Some(grow) = grow::grow(record, &seen.size)
    {
        return grow;
    }
    match nics::keep(record, &attached.nics, seen) {
        InstanceStep::Rest => volumes::unplug(record, &attached.volumes, seen),
        other => other,
    }
}

/// Lets go of what is to be detached, now that no guest runs.
fn release(attached: &Attached, seen: &SeenInstance) -> Option<InstanceStep> {
    // A guest whose memory was saved goes on with all that it had, and is asked to let go of it then.
    if seen.memory {
        return None;
    }
    nics::release(&attached.nics).or_else(|| volumes::release(&attached.volumes))
}

/// Whether the stop that is asked for gives the guest no time at all: not even its memory is kept.
fn is_forced(record: &Record<InstanceId, InstanceSpec>) -> bool {
    record.spec.stop_seconds == Some(0)
}

fn hibernate(record: &Record<InstanceId, InstanceSpec>) -> InstanceStep {
    InstanceStep::Do(vec![Action::HibernateGuest {
        instance_id: record.id.clone(),
        memory_mib: record.spec.memory_mib,
    }])
}

fn start(
    record: &Record<InstanceId, InstanceSpec>,
    network: Option<&GuestNetwork>,
    attached: &Attached,
    epoch: u64,
    seen: &SeenInstance,
) -> InstanceStep {
    let (id, spec) = (&record.id, &record.spec);
    if !seen.root_disk && seen.has_run {
        return InstanceStep::DiskLost;
    }
    let Some(network) = network else { return InstanceStep::AwaitNetwork };
    let disk = || Action::MakeRootDisk {
        instance_id: id.clone(),
        name: spec.name.as_ref().map(ToString::to_string),
        disk: spec.image.disk,
        format: spec.image.format,
        size_bytes: spec.root_size_bytes(),
        uid: spec.uid,
    };
    // Written at every start: keys and user data may have changed since the last one.
    let seed = || Action::WriteSeed {
        instance_id: id.clone(),
        seed: seed(id, spec, network, &attached.nics),
        uid: spec.uid,
    };
    // A guest that goes on finds its seed as it knows it.
    let keeps_seed = seen.seed_is_current || (seen.memory && seen.seed);
    let missing = [(!seen.root_disk).then(disk), (!keeps_seed).then(seed)];
    let missing: Vec<Action> = missing.into_iter().flatten().collect();
    if !missing.is_empty() {
        return InstanceStep::Prepare(missing);
    }
    if !seen.network_ready {
        return InstanceStep::AwaitNetwork;
    }
    if let Some(wait) = volumes::not_ready(&attached.volumes) {
        return wait;
    }
    InstanceStep::Do(vec![Action::StartGuest(GuestLaunch {
        instance_id: id.clone(),
        epoch,
        name: spec.name.as_ref().map_or_else(|| id.to_string(), ToString::to_string),
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
        maxima: spec.maxima,
        image: spec.image.clone(),
        root_layers: spec.root_layers.clone(),
        resume: seen.memory,
        display: spec.display,
        vpc_id: spec.interface.vpc_id.clone(),
        nics: std::iter::once(primary(spec))
            .chain(attached.nics.iter().map(|attached| attached.nic.clone()))
            .collect(),
        volumes: attached.volumes.iter().map(|attached| attached.volume.clone()).collect(),
        uid: spec.uid,
    })])
}

/// The interface that the instance was made with.
fn primary(spec: &InstanceSpec) -> GuestNic {
    GuestNic {
        interface_id: spec.interface.id.clone(),
        device_index: PRIMARY_DEVICE_INDEX,
        link: spec.interface.link.clone(),
        mac: spec.interface.mac,
    }
}

fn seed(
    id: &InstanceId,
    spec: &InstanceSpec,
    network: &GuestNetwork,
    attached: &[AttachedNic],
) -> SeedContent {
    SeedContent {
        instance_id: id.clone(),
        name: spec.name.as_ref().map(ToString::to_string),
        public_keys: spec.keys.iter().map(|key| key.public_key.line().to_owned()).collect(),
        host_key: spec.host_key.clone(),
        mac: spec.interface.mac,
        address: spec.interface.private_ip,
        ipv6: spec.interface.ipv6,
        prefix_len: network.prefix_len,
        gateway: network.gateway,
        dns_servers: network.dns_servers.clone(),
        on_lan: network.on_lan,
        others: attached
            .iter()
            .map(|attached| SeedInterface {
                mac: attached.nic.mac,
                address: attached.address,
                ipv6: attached.ipv6,
                prefix_len: attached.prefix_len,
            })
            .collect(),
        user_data: spec.user_data.clone(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
