//! This machine: QEMU, netlink, nftables, files. The one place where the planner's actions meet
//! the crates that carry them out.

pub(crate) mod doctor;
mod facts;
mod growth;
mod guests;
mod layers;
mod listeners;
mod networks;
mod ssh;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use ipnetwork::Ipv4Network;
use tokio::sync::broadcast;
use weft_hypervisor::{Accel, Firmware, ROOT_DEVICE, VolumeDisk, VolumeSecrets};
use weft_images::UnpackProgress;
use weft_model::{
    Accelerator, Below, BootMode, Counted, Counts, Digest, DiskFormat, GuestFigures, HostFacts,
    InstanceId, Lan, LayerId, LinkCounters, LinkName, PoolName, Problem, Reason, Sha512,
    SnapshotId, TrackedFlow, TransportProtocol, VolumeId, VpcId, VpcNetwork,
};
use weft_planner::{Action, GuestVolume, HostEdge, HostRoute, SeenNetwork, SeenVolume};
use weft_services::Sockets;

use super::blobs::Blobs;
use super::pools::Pools;
use super::{
    BlobFacts, ByteStream, Check, DiskFacts, Done, Host, HostError, NamespaceIdentity, SeenGuest,
    SshProbe, SshSeen, UploadState,
};
use crate::config::{AccelChoice, Directories};
use crate::volume_keys::VolumeKeys;
use guests::LinuxGuests;
use networks::LinuxNetworks;
use volumes::LinuxVolumes;

/// TCG's cache of translated code, in MiB: bounded, and counted.
const TB_SIZE_MIB: u32 = 128;

/// This machine.
#[derive(Debug)]
pub(crate) struct LinuxHost {
    facts: HostFacts,
    blobs: Blobs,
    guests: LinuxGuests,
    volumes: LinuxVolumes,
    networks: LinuxNetworks,
    doctor: doctor::Doctor,
}

impl LinuxHost {
    /// Looks at the machine and makes the directories. Changes nothing else.
    ///
    /// # Errors
    /// Not root, no QEMU, or no KVM where KVM was demanded.
    pub(crate) async fn open(
        directories: &Directories,
        pools: Pools,
        keys: VolumeKeys,
        choice: AccelChoice,
        name: String,
        holder: PathBuf,
    ) -> Result<Self, HostError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(HostError::new(
                "the Linux host needs root: run as root, or use --host sim",
                false,
            ));
        }
        let qemu = facts::qemu()?;
        let (accelerator, note) = facts::accelerator(choice, &qemu).await?;
        if accelerator == Accelerator::Tcg {
            tracing::warn!(
                reason = note,
                "KVM IS NOT USED: guests run under TCG, software emulation, many times slower"
            );
        }
        let facts = facts::gather(name, accelerator, note, &qemu);
        let accel = match accelerator {
            Accelerator::Kvm => Accel::Kvm,
            _ => Accel::Tcg { tb_size_mib: TB_SIZE_MIB },
        };
        let blobs = Blobs::open(&directories.blobs()).await?;
        let networks = LinuxNetworks::open(directories, holder.clone())?;
        let doctor = doctor::Doctor::of_agent(directories, pools.clone(), accelerator);
        let guests = LinuxGuests::open(directories, pools.clone(), qemu, accel, holder).await?;
        let volumes = LinuxVolumes::open(pools, keys)?;
        Ok(Self { facts, blobs, guests, volumes, networks, doctor })
    }
}

impl LinuxHost {
    /// A volume as its guest's hypervisor is told of it.
    fn volume_disk(&self, volume: &GuestVolume) -> Result<VolumeDisk, HostError> {
        self.volumes.disk_of(volume, |digest| self.blobs.path(digest))
    }
}

#[async_trait]
impl Host for LinuxHost {
    fn facts(&self) -> &HostFacts {
        &self.facts
    }

    fn check_boot(&self, mode: BootMode) -> Result<(), Problem> {
        if mode != BootMode::Uefi || Firmware::find().is_some() {
            return Ok(());
        }
        let message = "the image boots by UEFI, and the host has no UEFI firmware";
        Err(Problem::new(Reason::FailedPrecondition, message)
            .at("image_id")
            .remedy(Firmware::REMEDY))
    }

    fn memory_cost_mib(&self, memory_mib: u32, display: bool) -> u64 {
        self.guests.memory_cost_mib(memory_mib, display)
    }

    fn root_disk_file(&self, id: &InstanceId) -> PathBuf {
        self.guests.root(id)
    }

    async fn carry_out(&self, action: &Action) -> Result<Done, HostError> {
        let (guests, networks) = (&self.guests, &self.networks);
        let done = match action {
            Action::MakeRootDisk { instance_id, disk, format, size_bytes, uid, .. } => {
                let blob = self.blobs.path(disk);
                guests.make_root_disk(instance_id, &blob, *format, *size_bytes, *uid).await
            }
            Action::GrowRootDisk { instance_id, size_bytes, running: true } => {
                guests.grow_disk(instance_id, ROOT_DEVICE, *size_bytes).await
            }
            Action::GrowRootDisk { instance_id, size_bytes, running: false } => {
                guests.grow_root(instance_id, *size_bytes).await
            }
            Action::WriteSeed { instance_id, seed, uid } => {
                guests.write_seed(instance_id, seed, *uid).await
            }
            Action::StartGuest(launch) => {
                let netns = networks.path_for_others(&launch.vpc_id)?;
                let volumes = launch.volumes.iter().map(|volume| self.volume_disk(volume));
                let volumes = volumes.collect::<Result<_, _>>()?;
                let mut secrets = VolumeSecrets::new();
                for volume in &launch.volumes {
                    let secret = self.volumes.secret(&volume.volume_id, volume.secret.as_ref())?;
                    secrets.extend(secret.map(|secret| (volume.volume_id.clone(), secret)));
                }
                let blob = |digest: &Digest| self.blobs.path(digest);
                guests.start(launch, netns, volumes, secrets, blob).await
            }
            Action::PlugNic { instance_id, vpc_id, nic } => {
                guests.plug(instance_id, nic, &networks.path_for_others(vpc_id)?).await
            }
            Action::UnplugNic { instance_id, interface_id } => {
                guests.unplug(instance_id, interface_id).await
            }
            Action::PlugVolume { instance_id, volume } => {
                let secret = self.volumes.secret(&volume.volume_id, volume.secret.as_ref())?;
                guests.plug_volume(instance_id, &self.volume_disk(volume)?, secret.as_ref()).await
            }
            Action::UnplugVolume { instance_id, volume_id } => {
                guests.unplug_volume(instance_id, volume_id).await
            }
            Action::LimitDisk { instance_id, volume_id, limits } => {
                let device = volume_id.as_ref().map_or(ROOT_DEVICE, VolumeId::as_str);
                guests.limit_disk(instance_id, device, *limits).await
            }
            Action::RaiseLimits { instance_id, size, display } => {
                guests.raise_limits(instance_id, *size, *display).await
            }
            Action::AddVcpus { instance_id, vcpus } => guests.add_vcpus(instance_id, *vcpus).await,
            Action::AddMemory { instance_id, slot, mib } => {
                guests.add_memory(instance_id, *slot, *mib).await
            }
            Action::PressPowerButton { instance_id } => guests.power_button(instance_id).await,
            Action::HibernateGuest { instance_id, memory_mib } => {
                guests.hibernate(instance_id, *memory_mib).await
            }
            Action::KeepMemory { instance_id } => guests.keep_memory(instance_id).await,
            Action::ResumeGuest { instance_id } => guests.resume(instance_id).await,
            Action::ForgetMemory { instance_id } => guests.forget_memory(instance_id).await,
            Action::ResetGuest { instance_id } => guests.reset(instance_id).await,
            Action::ContinueGuest { instance_id } => guests.go_on(instance_id).await,
            Action::EndGuest { instance_id } => guests.end(instance_id).await,
            Action::ForgetGuest { instance_id } => guests.forget(instance_id).await,
            Action::RemoveDisks { instance_id } => guests.remove_disks(instance_id).await,
            Action::SealRootDisk { instance_id, layer, size_bytes, uid, freeze } => {
                return guests.seal_root(instance_id, layer, *size_bytes, *uid, *freeze).await;
            }
            Action::SealVolume {
                volume_id,
                pool,
                layer,
                size_bytes,
                instance_id,
                secret,
                freeze,
            } => {
                let files = self.volumes.seal_spec(volume_id, pool, layer, *size_bytes)?;
                let encryption = self.volumes.secret(volume_id, secret.as_ref()).into();
                let guest = instance_id.as_ref();
                return guests
                    .seal_volume(volume_id, &files, layer, guest, encryption, *freeze)
                    .await;
            }
            Action::MergeLayers { merge, below } => {
                let base = below.base.as_ref().map(|base| self.blobs.backing(base));
                let room_bytes = self.blobs.room_bytes().await?;
                guests.merge_layers(merge, base, &below.layers, room_bytes).await
            }
            Action::UseMergedRoot { instance_id, layers, merge } => {
                guests.use_merged(instance_id, ROOT_DEVICE, true, layers, merge).await
            }
            Action::UseMergedVolume { volume_id, base, layers, merge, instance_id } => {
                match instance_id {
                    Some(id) => {
                        guests.use_merged(id, volume_id.as_str(), *base, layers, merge).await
                    }
                    None => Ok(()),
                }
            }
            Action::ThawGuest { instance_id } => guests.thaw(instance_id).await,
            Action::ForgetFreezes { instance_id, layers } => {
                guests.forget_freezes(instance_id, layers)
            }
            Action::RemoveLayer { layer } => guests.remove_layer(layer).await,

            Action::MakeVolume { volume_id, pool, size_bytes, below, secret } => {
                let secret = self.volumes.secret(volume_id, secret.as_ref())?;
                let (volumes, blobs) = (&self.volumes, &self.blobs);
                volumes.make(volume_id, pool, *size_bytes, below, blobs, secret.as_ref()).await
            }
            Action::GrowVolume { volume_id, size_bytes, instance_id: Some(id), .. } => {
                guests.grow_disk(id, volume_id.as_str(), *size_bytes).await
            }
            Action::GrowVolume { volume_id, pool, size_bytes, instance_id: None, secret } => {
                let secret = self.volumes.secret(volume_id, secret.as_ref())?;
                self.volumes.grow(volume_id, pool, *size_bytes, secret.as_ref()).await
            }
            Action::RemoveVolume { volume_id, pool } => self.volumes.remove(volume_id, pool).await,

            Action::MakeNamespace { vpc_id } => {
                networks.make_namespace(vpc_id, &guests.netns_paths()).await
            }
            Action::SetBase { network } => networks.set_base(network).await,
            Action::SetUplink { network } => networks.set_uplink(network).await,
            Action::RemoveUplink { vpc_id } => networks.remove_uplink(vpc_id).await,
            Action::AddTap { vpc_id, link, tap } => networks.add_tap(vpc_id, link, tap).await,
            Action::SetBridge { network } => networks.set_bridge(network).await,
            Action::JoinBridge { network } => networks.join_bridge(network).await,
            Action::SetRoutes { vpc_id, routes } => networks.set_routes(vpc_id, routes).await,
            Action::OpenTap { vpc_id, link, tap, bridge } => {
                networks.open_tap(vpc_id, link, tap, bridge.as_ref()).await
            }
            Action::RemoveTap { vpc_id, link } => networks.remove_tap(vpc_id, link).await,
            Action::SetFirewall { vpc_id, firewall } => {
                networks.set_firewall(vpc_id, firewall).await
            }
            Action::CutConnections { vpc_id, flows } => networks.cut(vpc_id, flows).await,
            Action::RemoveNamespace { vpc_id } => networks.remove_namespace(vpc_id).await,
            Action::SetHostRouting { routes, edge } => {
                networks.set_host_routing(routes, edge).await
            }

            Action::BeginUpload { .. }
            | Action::AppendUpload { .. }
            | Action::FinishUpload { .. }
            | Action::UnpackBlob { .. }
            | Action::AbandonUpload { .. }
            | Action::KeepCapture { .. }
            | Action::AbandonCapture { .. }
            | Action::RemoveBlob { .. } => self.blobs.apply(action).await,
            Action::FlattenDisk { snapshot_id, below: Below { base, layers }, size_bytes } => {
                let layers = layers.iter().map(|layer| self.volumes.pools().layer(layer));
                let layers = layers.collect::<Result<_, _>>()?;
                self.blobs.flatten(snapshot_id, base.as_ref(), layers, *size_bytes).await
            }
        };
        done.map(|()| Done::AsAsked)
    }

    async fn observe_guest(&self, id: &InstanceId) -> Result<SeenGuest, HostError> {
        self.guests.observe(id).await
    }

    async fn can_freeze(&self, id: &InstanceId) -> Result<(), HostError> {
        self.guests.can_freeze(id).await
    }

    fn freeze_no_more(&self) {
        self.guests.freeze_no_more();
    }

    async fn root_disk_bytes(&self, id: &InstanceId) -> Option<u64> {
        self.guests.root_disk_bytes(id).await
    }

    async fn has_root_disk(&self, id: &InstanceId) -> Result<bool, HostError> {
        self.guests.has_root_disk(id).await
    }

    async fn observe_guests(&self) -> Result<BTreeSet<InstanceId>, HostError> {
        self.guests.list()
    }

    fn pools(&self) -> &Pools {
        self.volumes.pools()
    }

    fn volume_keys(&self) -> &VolumeKeys {
        self.volumes.keys()
    }

    async fn observe_volume(
        &self,
        id: &VolumeId,
        pool: &PoolName,
    ) -> Result<SeenVolume, HostError> {
        self.volumes.observe(id, pool).await
    }

    async fn observe_volumes(&self) -> Result<BTreeSet<VolumeId>, HostError> {
        self.volumes.list()
    }

    async fn observe_network(&self, desired: &VpcNetwork) -> Result<SeenNetwork, HostError> {
        self.networks.observe(desired).await
    }

    async fn host_drift(
        &self,
        routes: &BTreeMap<LinkName, HostRoute>,
        edge: &HostEdge,
    ) -> Result<Vec<String>, HostError> {
        self.networks.host_drift(routes, edge).await
    }

    async fn counters(&self, vpc_id: &VpcId) -> Result<BTreeMap<Counted, Counts>, HostError> {
        self.networks.counters(vpc_id).await
    }

    async fn figures(&self, id: &InstanceId) -> Result<Option<GuestFigures>, HostError> {
        self.guests.figures(id).await
    }

    async fn link_counters(
        &self,
        vpc_id: &VpcId,
    ) -> Result<BTreeMap<LinkName, LinkCounters>, HostError> {
        self.networks.link_counters(vpc_id).await
    }

    async fn connections(&self, vpc_id: &VpcId) -> Result<Vec<TrackedFlow>, HostError> {
        self.networks.connections(vpc_id).await
    }

    async fn observe_vpcs(&self) -> Result<BTreeSet<VpcId>, HostError> {
        self.networks.list()
    }

    fn namespace_of(&self, vpc_id: &VpcId) -> Result<Option<NamespaceIdentity>, HostError> {
        self.networks.identity(vpc_id)
    }

    async fn lan_fault(&self, lan: &Lan) -> Result<Option<Problem>, HostError> {
        self.networks.lan_fault(lan).await
    }

    async fn open_services(
        &self,
        vpc_id: &VpcId,
        gateways: &BTreeSet<Ipv4Addr>,
    ) -> Result<Sockets, HostError> {
        self.networks.open_services(vpc_id, gateways)
    }

    fn hints(&self) -> broadcast::Receiver<InstanceId> {
        self.guests.hints()
    }

    async fn connect(
        &self,
        vpc_id: &VpcId,
        address: SocketAddrV4,
        deadline: Duration,
    ) -> Result<Box<dyn ByteStream>, HostError> {
        Ok(Box::new(self.networks.connect(vpc_id, address, deadline).await?))
    }

    async fn probe_ssh(
        &self,
        _instance_id: &InstanceId,
        vpc_id: &VpcId,
        address: SocketAddrV4,
        host_key: &str,
    ) -> Result<SshProbe, HostError> {
        match self.networks.connect(vpc_id, address, ssh::CONNECT_DEADLINE).await {
            Ok(stream) => Ok(ssh::probe(stream, host_key).await),
            Err(error) => Ok(SshProbe::NotYet(SshSeen::unconnected(&error))),
        }
    }

    async fn console_tail(&self, id: &InstanceId, max_bytes: usize) -> Result<Vec<u8>, HostError> {
        self.guests.console_tail(id, max_bytes)
    }

    async fn attach_console(&self, id: &InstanceId) -> Result<Box<dyn ByteStream>, HostError> {
        Ok(Box::new(self.guests.attach_console(id).await?))
    }

    async fn screenshot(&self, id: &InstanceId) -> Result<Vec<u8>, HostError> {
        self.guests.screenshot(id).await
    }

    async fn open_display(&self, id: &InstanceId) -> Result<Box<dyn ByteStream>, HostError> {
        Ok(Box::new(self.guests.open_display(id).await?))
    }

    async fn upload_state(&self, digest: &Digest) -> Result<UploadState, HostError> {
        self.blobs.upload_state(digest).await
    }

    async fn stale_uploads(&self, unchanged_for: Duration) -> Result<Vec<Digest>, HostError> {
        self.blobs.stale_uploads(unchanged_for).await
    }

    async fn inspect_disk(&self, digest: &Digest) -> Result<DiskFacts, HostError> {
        let facts = self.blobs.inspect_disk(digest).await?;
        if facts.format == DiskFormat::Qcow2 {
            self.blobs.check_qcow2(digest).await?;
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
        self.guests.layer_ids().await
    }

    async fn blobs(&self) -> Result<BTreeMap<Digest, BlobFacts>, HostError> {
        self.blobs.list().await
    }

    async fn free_range(
        &self,
        candidates: &[Ipv4Network],
    ) -> Result<Option<Ipv4Network>, HostError> {
        self.networks.first_free_range(candidates).await
    }

    async fn own_addresses(&self) -> Result<BTreeSet<Ipv4Addr>, HostError> {
        self.networks.own_addresses().await
    }

    async fn listener(
        &self,
        protocol: TransportProtocol,
        port: u16,
        address: Option<Ipv4Addr>,
    ) -> Result<Option<SocketAddr>, HostError> {
        listeners::find(protocol, port, address)
    }

    async fn doctor(&self) -> Vec<Check> {
        self.doctor.checks(self.guests.cgroups()).await
    }
}
