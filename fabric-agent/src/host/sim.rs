//! A simulated host: the same trait, no guests, no root.
//!
//! Its reality is a SQLite file of its own, written before a step is reported done, so it survives
//! `kill -9` of the agent as a real host does. Images are real files: they are verified and their
//! headers are read as on any host.
//!
//! Two ways to play failures, for tests: the words of [`Behaviour`] in the instance's name, and
//! [`orders`] in a file, which name steps that are to be late, to fail or to hang.

mod behaviour;
mod disk_image;
mod display;
mod echo;
mod freeze;
mod growth;
mod life;
mod load;
mod merge;
mod observe;
mod orders;
mod plugs;
mod reality;
mod seal;
mod things;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use weft_hypervisor::DISPLAY_MIB;
use weft_images::{DiskError, UnpackProgress};
use weft_model::{
    Accelerator, Architecture, Counted, Counts, Digest, DiskFormat, GuestFigures, HostFacts,
    InstanceId, Lan, LayerId, LinkCounters, LinkName, PoolName, Problem, Reason, Sha512,
    SnapshotId, TrackedFlow, VolumeId, VpcId, VpcNetwork,
};
use weft_planner::{
    Action, HostEdge, HostRoute, Saving, SeenDisk, SeenNetwork, SeenVolume, simulate_network,
};

use super::blobs::Blobs;
use super::pools::Pools;
use super::{
    BlobFacts, ByteStream, Check, CheckResult, DiskFacts, Done, Host, HostError, NamespaceIdentity,
    SeenGuest, SshProbe, SshSeen, UploadState,
};
use crate::clock::Clock;
use crate::volume_keys::VolumeKeys;
use behaviour::Behaviour;
use orders::Orders;
use reality::{Guest, Reality, Volume};

/// The simulated host.
#[derive(Debug)]
pub(crate) struct SimHost {
    facts: HostFacts,
    blobs: Blobs,
    pools: Pools,
    keys: VolumeKeys,
    reality: Reality,
    orders: Orders,
    clock: Arc<dyn Clock>,
    hints: broadcast::Sender<InstanceId>,
    #[cfg(test)]
    pub(crate) asked: Asked,
}

/// How often it was asked what costs a real host something.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) guest: AtomicUsize,
    pub(crate) root_disk: AtomicUsize,
}

impl SimHost {
    /// Opens the reality in `dir`, or begins one.
    pub(crate) async fn open(
        dir: &Path,
        blobs: &Path,
        (pools, keys): (Pools, VolumeKeys),
        name: String,
        vcpus: u32,
        memory_mib: u64,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HostError> {
        let facts = HostFacts {
            name,
            accelerator: Accelerator::Sim,
            accelerator_note: "simulated: guests exist on paper only".to_owned(),
            vcpus,
            memory_mib,
            hypervisor_version: "simulated".to_owned(),
            architecture: Architecture::X86_64,
        };
        let (hints, _) = broadcast::channel(1024);
        let blobs = Blobs::open(blobs).await?;
        let (reality, orders) = (Reality::open(&dir.join("sim-host.db"))?, Orders::of(dir));
        reality.boot(&clock.moment().boot).await?;
        Ok(Self {
            facts,
            blobs,
            pools,
            keys,
            reality,
            orders,
            clock,
            hints,
            #[cfg(test)]
            asked: Asked::default(),
        })
    }

    /// Does to a step what a test has ordered for it.
    async fn obey_orders(&self, action: &Action) -> Result<(), HostError> {
        let mut subjects = action.subjects();
        subjects.extend(action.instance_id().and_then(|id| self.name_of(id)));
        self.orders.obey(action.name(), &subjects, &self.reality).await
    }

    /// What the instance's owner called it, as far as a step has said so.
    fn name_of(&self, id: &InstanceId) -> Option<String> {
        self.reality.guest(id)?.name
    }

    /// Whether the guest shows anything.
    fn shown(&self, id: &InstanceId) -> Result<(), HostError> {
        let missing = match self.running(id) {
            None => "no running guest",
            Some(guest) if !guest.display => "no display",
            Some(_) => return Ok(()),
        };
        let what = format!("show the display of {id}: it has {missing}");
        Err(HostError::new(what, false).reason(Reason::FailedPrecondition))
    }

    fn running(&self, id: &InstanceId) -> Option<Guest> {
        let guest = self.reality.guest(id)?;
        matches!(guest.state, reality::State::Running { .. }).then_some(guest)
    }
}

#[async_trait]
impl Host for SimHost {
    fn facts(&self) -> &HostFacts {
        &self.facts
    }

    fn memory_cost_mib(&self, memory_mib: u32, display: bool) -> u64 {
        u64::from(memory_mib) + if display { DISPLAY_MIB } else { 0 }
    }

    /// It is on paper only.
    fn root_disk_file(&self, id: &InstanceId) -> PathBuf {
        PathBuf::from(format!("the simulated root disk of {id}"))
    }

    async fn carry_out(&self, action: &Action) -> Result<Done, HostError> {
        self.obey_orders(action).await?;
        let done = match action {
            Action::MakeRootDisk { instance_id, name, size_bytes, .. } => {
                let change = |guest: &mut Guest| {
                    guest.root_disk = true;
                    guest.root_bytes = *size_bytes;
                    guest.name.clone_from(name);
                };
                self.reality.change_guest(instance_id, change).await
            }
            Action::WriteSeed { instance_id, .. } => {
                self.reality.change_guest(instance_id, |guest| guest.folder = true).await?;
                weft_crash_points::point("sim.seed.begun");
                self.reality.change_guest(instance_id, |guest| guest.seed = true).await
            }
            Action::StartGuest(launch) => self.start(launch).await,
            Action::PlugNic { instance_id, nic, .. } => self.plug_nic(instance_id, nic).await,
            Action::UnplugNic { instance_id, interface_id } => {
                self.unplug_nic(instance_id, interface_id).await
            }
            Action::GrowRootDisk { instance_id, size_bytes, .. } => {
                let change = |guest: &mut Guest| guest.root_bytes = *size_bytes;
                self.reality.change_guest(instance_id, change).await
            }
            Action::PlugVolume { instance_id, volume } => {
                self.plug_volume(instance_id, volume).await
            }
            Action::UnplugVolume { instance_id, volume_id, .. } => {
                self.unplug_volume(instance_id, volume_id).await
            }
            Action::LimitDisk { instance_id, volume_id, limits } => {
                self.limit_disk(instance_id, volume_id.as_ref(), *limits).await
            }
            Action::RaiseLimits { instance_id, size, .. } => {
                self.reality.change_guest(instance_id, |guest| guest.may_take = Some(*size)).await
            }
            Action::AddVcpus { instance_id, vcpus } => self.add_vcpus(instance_id, *vcpus).await,
            Action::AddMemory { instance_id, slot, mib } => {
                self.add_memory(instance_id, *slot, *mib).await
            }
            // Its disks have no end.
            Action::ContinueGuest { .. } => Ok(()),
            Action::PressPowerButton { instance_id } => self.press_power_button(instance_id).await,
            Action::HibernateGuest { instance_id, .. } => self.hibernate(instance_id).await,
            Action::KeepMemory { instance_id } => self.keep_memory(instance_id).await,
            Action::ResumeGuest { instance_id } => self.resume(instance_id).await,
            Action::ForgetMemory { instance_id } => {
                self.reality.change_guest(instance_id, |guest| guest.memory = false).await
            }
            Action::ResetGuest { instance_id } => self.reset(instance_id).await,
            Action::EndGuest { instance_id } => self.end(instance_id).await,
            Action::ForgetGuest { instance_id } => self.forget(instance_id).await,
            Action::RemoveDisks { instance_id } => {
                let change = |guest: &mut Guest| {
                    guest.folder = false;
                    guest.root_disk = false;
                    guest.root_bytes = 0;
                    guest.memory = false;
                    guest.seed = false;
                    guest.layers.clear();
                };
                self.reality.change_guest(instance_id, change).await
            }
            Action::SealRootDisk { instance_id, layer, freeze, .. } => {
                return self.seal_root(instance_id, layer, *freeze).await;
            }
            Action::ThawGuest { instance_id } => self.thaw(instance_id).await,
            // It sees what its guests are, and writes nothing down.
            Action::ForgetFreezes { .. } => Ok(()),
            Action::MergeLayers { merge, below } => self.merge_layers(merge, &below.layers).await,
            Action::UseMergedRoot { instance_id, layers, merge } => {
                self.use_merged_root(instance_id, layers, merge).await
            }
            Action::UseMergedVolume { volume_id, layers, merge, .. } => {
                self.use_merged_volume(volume_id, layers, merge).await
            }
            Action::RemoveLayer { layer } => {
                if let Some(id) = self.reality.what_lies_over(layer) {
                    let what = format!("remove the layer {layer}: the disk of {id} lies over it");
                    return Err(HostError::new(what, false));
                }
                self.reality.remove_layer(layer).await
            }
            Action::SealVolume { .. } => return self.seal_volume(action).await,
            Action::MakeVolume { .. } | Action::GrowVolume { .. } | Action::RemoveVolume { .. } => {
                self.change_volume(action).await
            }
            Action::MakeNamespace { vpc_id }
            | Action::RemoveUplink { vpc_id }
            | Action::AddTap { vpc_id, .. }
            | Action::OpenTap { vpc_id, .. }
            | Action::RemoveTap { vpc_id, .. }
            | Action::SetFirewall { vpc_id, .. }
            | Action::SetRoutes { vpc_id, .. }
            | Action::RemoveNamespace { vpc_id } => {
                self.reality.change_network(vpc_id, |seen| simulate_network(seen, action)).await
            }
            Action::SetBase { network }
            | Action::SetUplink { network }
            | Action::SetBridge { network }
            | Action::JoinBridge { network } => {
                let change = |seen: &mut SeenNetwork| simulate_network(seen, action);
                self.reality.change_network(&network.vpc_id, change).await
            }
            // Simulated guests have no connections.
            Action::CutConnections { .. } => Ok(()),
            // The agent's own namespace is none of a simulated host's.
            Action::SetHostRouting { .. } => Ok(()),
            Action::BeginUpload { .. }
            | Action::AppendUpload { .. }
            | Action::FinishUpload { .. }
            | Action::UnpackBlob { .. }
            | Action::AbandonUpload { .. }
            | Action::KeepCapture { .. }
            | Action::AbandonCapture { .. }
            | Action::RemoveBlob { .. } => self.blobs.apply(action).await,
            Action::FlattenDisk { snapshot_id, below, size_bytes } => {
                let there = self.layers_there();
                if let Some(missing) = below.layers.iter().find(|layer| !there.contains(*layer)) {
                    let what = format!("make an image of {snapshot_id}: {missing} is not there");
                    return Err(HostError::new(what, false).reason(Reason::Internal));
                }
                self.blobs.pretend_flattened(snapshot_id, *size_bytes).await
            }
        };
        done.map(|()| Done::AsAsked)
    }

    async fn can_freeze(&self, id: &InstanceId) -> Result<(), HostError> {
        self.can_be_frozen(id)
    }

    async fn observe_guest(&self, id: &InstanceId) -> Result<SeenGuest, HostError> {
        #[cfg(test)]
        self.asked.guest.fetch_add(1, Ordering::Relaxed);
        let subjects: Vec<String> =
            std::iter::once(id.to_string()).chain(self.name_of(id)).collect();
        self.orders.obey("observe_guest", &subjects, &self.reality).await?;
        let Some(guest) = self.reality.guest(id) else { return Ok(SeenGuest::default()) };
        let saving = || match self.still_writes(id) {
            true => Saving::UnderWay,
            false => Saving::Over,
        };
        Ok(guest.seen(saving))
    }

    async fn root_disk_bytes(&self, id: &InstanceId) -> Option<u64> {
        #[cfg(test)]
        self.asked.root_disk.fetch_add(1, Ordering::Relaxed);
        let guest = self.reality.guest(id)?;
        guest.root_disk.then_some(guest.root_bytes)
    }

    async fn has_root_disk(&self, id: &InstanceId) -> Result<bool, HostError> {
        Ok(self.reality.guest(id).is_some_and(|guest| guest.root_disk))
    }

    async fn observe_guests(&self) -> Result<BTreeSet<InstanceId>, HostError> {
        Ok(self.reality.guests())
    }

    fn pools(&self) -> &Pools {
        &self.pools
    }

    fn volume_keys(&self) -> &VolumeKeys {
        &self.keys
    }

    async fn observe_volume(
        &self,
        id: &VolumeId,
        pool: &PoolName,
    ) -> Result<SeenVolume, HostError> {
        self.pools.dir(pool)?;
        let volume = self.reality.volume(id).filter(|volume| self.pools.dir(&volume.pool).is_ok());
        let disk = match volume.as_ref().filter(|volume| volume.pool == *pool) {
            Some(volume) => SeenDisk::There(volume.size_bytes),
            None => SeenDisk::Missing,
        };
        Ok(SeenVolume { pools: volume.into_iter().map(|it| it.pool).collect(), disk })
    }

    async fn observe_volumes(&self) -> Result<BTreeSet<VolumeId>, HostError> {
        let there = |volume: &Volume| self.pools.dir(&volume.pool).is_ok();
        let volumes = self.reality.volumes().into_iter().filter(|(_, volume)| there(volume));
        Ok(volumes.map(|(id, _)| id).collect())
    }

    async fn observe_network(&self, desired: &VpcNetwork) -> Result<SeenNetwork, HostError> {
        Ok(self.reality.network(&desired.vpc_id))
    }

    /// It has no forwarding of its own.
    async fn host_drift(
        &self,
        _routes: &BTreeMap<LinkName, HostRoute>,
        _edge: &HostEdge,
    ) -> Result<Vec<String>, HostError> {
        Ok(Vec::new())
    }

    /// No packet is ever sent: every counter stands at nothing.
    async fn counters(&self, vpc_id: &VpcId) -> Result<BTreeMap<Counted, Counts>, HostError> {
        let seen = self.reality.network(vpc_id);
        let groups = seen.firewall.iter().flat_map(|firewall| &firewall.groups);
        let counted = groups.flat_map(|(id, group)| {
            let rules = group.rules.keys().cloned().map(Counted::Rule);
            rules.chain(group.allow_all_egress.then(|| Counted::AllEgress(id.clone())))
        });
        Ok(counted.map(|counted| (counted, Counts::default())).collect())
    }

    async fn figures(&self, id: &InstanceId) -> Result<Option<GuestFigures>, HostError> {
        Ok(self.running(id).map(|guest| load::figures(&guest, &self.clock.moment())))
    }

    async fn link_counters(
        &self,
        vpc_id: &VpcId,
    ) -> Result<BTreeMap<LinkName, LinkCounters>, HostError> {
        let network = self.reality.network(vpc_id).network.unwrap_or_default();
        Ok(load::link_counters(&self.reality, network.taps.keys(), &self.clock.moment()))
    }

    async fn connections(&self, _vpc_id: &VpcId) -> Result<Vec<TrackedFlow>, HostError> {
        Ok(Vec::new())
    }

    async fn observe_vpcs(&self) -> Result<BTreeSet<VpcId>, HostError> {
        Ok(self.reality.vpcs())
    }

    /// A simulated network has no place for services: its guests tell by themselves what they would
    /// have told those.
    fn namespace_of(&self, _vpc_id: &VpcId) -> Result<Option<NamespaceIdentity>, HostError> {
        Ok(None)
    }

    /// Its operator has every bridge and every link, with VLANs.
    async fn lan_fault(&self, _lan: &Lan) -> Result<Option<Problem>, HostError> {
        Ok(None)
    }

    async fn open_services(
        &self,
        vpc_id: &VpcId,
        _gateways: &BTreeSet<Ipv4Addr>,
    ) -> Result<weft_services::Sockets, HostError> {
        let what = format!("serve {vpc_id}: a simulated network has no namespace");
        Err(HostError::new(what, false).reason(Reason::FailedPrecondition))
    }

    fn hints(&self) -> broadcast::Receiver<InstanceId> {
        self.hints.subscribe()
    }

    async fn connect(
        &self,
        _vpc_id: &VpcId,
        address: SocketAddrV4,
        _deadline: Duration,
    ) -> Result<Box<dyn ByteStream>, HostError> {
        let what = format!("connect to {address}: a simulated guest has no ports");
        Err(HostError::new(what, false).reason(Reason::FailedPrecondition))
    }

    async fn probe_ssh(
        &self,
        instance_id: &InstanceId,
        _vpc_id: &VpcId,
        _address: SocketAddrV4,
        _host_key: &str,
    ) -> Result<SshProbe, HostError> {
        Ok(match self.running(instance_id) {
            Some(guest) if guest.behaviour != Behaviour::NoSsh => SshProbe::Ready,
            Some(_) => SshProbe::NotYet(SshSeen::Refused),
            None => SshProbe::NotYet(SshSeen::Silent),
        })
    }

    async fn console_tail(&self, id: &InstanceId, _max: usize) -> Result<Vec<u8>, HostError> {
        Ok(match self.reality.guest(id).map(|guest| guest.state) {
            Some(reality::State::Running { epoch, .. }) => {
                format!("simulated guest, launch {epoch}\n").into_bytes()
            }
            Some(_)
                if self.reality.guest(id).is_some_and(|it| it.behaviour == Behaviour::Panic) =>
            {
                b"Kernel panic - not syncing: simulated\n".to_vec()
            }
            _ => Vec::new(),
        })
    }

    async fn attach_console(&self, id: &InstanceId) -> Result<Box<dyn ByteStream>, HostError> {
        if self.reality.guest(id).is_none() {
            let what = format!("attach to the console of {id}: it does not run");
            return Err(HostError::new(what, false).reason(Reason::FailedPrecondition));
        }
        Ok(echo::after(format!("simulated console of {id}\n").into_bytes()))
    }

    async fn screenshot(&self, id: &InstanceId) -> Result<Vec<u8>, HostError> {
        self.shown(id).map(|()| display::picture())
    }

    async fn open_display(&self, id: &InstanceId) -> Result<Box<dyn ByteStream>, HostError> {
        self.shown(id).map(|()| echo::after(display::VERSION.to_vec()))
    }

    async fn upload_state(&self, digest: &Digest) -> Result<UploadState, HostError> {
        self.blobs.upload_state(digest).await
    }

    async fn stale_uploads(&self, unchanged_for: Duration) -> Result<Vec<Digest>, HostError> {
        self.blobs.stale_uploads(unchanged_for).await
    }

    async fn inspect_disk(&self, digest: &Digest) -> Result<DiskFacts, HostError> {
        let facts = self.blobs.inspect_disk(digest).await?;
        if facts.format == DiskFormat::Qcow2
            && let Err(error) = self.blobs.check_qcow2(digest).await
        {
            // QEMU need not be installed here: no guest will read the image.
            match error.cause() {
                Some(DiskError::NoQemuImg { .. }) => {
                    tracing::warn!(blob.sha256 = %digest, "the tables of the qcow2 image are not checked: there is no qemu-img");
                }
                _ => return Err(error),
            }
        }
        Ok(facts)
    }

    async fn blob_by_sha512(&self, sha512: &Sha512) -> Result<Option<Digest>, HostError> {
        self.blobs.by_sha512(sha512).await
    }

    fn unpacked(&self, digest: &Digest) -> Option<Digest> {
        self.blobs.unpacked(digest)
    }

    fn unpack_progress(&self, digest: &Digest) -> Option<UnpackProgress> {
        self.blobs.unpack_progress(digest)
    }

    async fn inspect_kernel(&self, digest: &Digest) -> Result<(), HostError> {
        self.blobs.inspect_kernel(digest).await
    }

    async fn captured(&self, snapshot_id: &SnapshotId) -> Result<Digest, HostError> {
        self.blobs.captured(snapshot_id.as_str()).await
    }

    async fn captures(&self) -> Result<BTreeSet<String>, HostError> {
        self.blobs.captures().await
    }

    async fn layers(&self) -> Result<BTreeSet<LayerId>, HostError> {
        Ok(self.layers_there())
    }

    async fn blobs(&self) -> Result<BTreeMap<Digest, BlobFacts>, HostError> {
        self.blobs.list().await
    }

    async fn free_range(
        &self,
        candidates: &[ipnetwork::Ipv4Network],
    ) -> Result<Option<ipnetwork::Ipv4Network>, HostError> {
        Ok(candidates.first().copied())
    }

    /// It has none.
    async fn own_addresses(&self) -> Result<BTreeSet<Ipv4Addr>, HostError> {
        Ok(BTreeSet::new())
    }

    /// It has no services.
    async fn listener(
        &self,
        _protocol: weft_model::TransportProtocol,
        _port: u16,
        _address: Option<Ipv4Addr>,
    ) -> Result<Option<std::net::SocketAddr>, HostError> {
        Ok(None)
    }

    async fn doctor(&self) -> Vec<Check> {
        let host = Check {
            name: "host",
            result: CheckResult::Ok,
            finding: "simulated: nothing of this machine is used but a file".to_owned(),
            remedy: String::new(),
        };
        let pools = super::linux::doctor::pools::checks(&self.pools);
        std::iter::once(host).chain(pools).chain(self.orders.check()).collect()
    }
}
