//! Guests, their disks and their seeds.

mod boot;
mod disks;
mod display;
mod freeze;
mod memory;
mod runs;
mod starved;

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;
use weft_hypervisor::{
    Accel, BackingImage, Boot, Booted, Cgroups, ExitCause, Firmware, Freezes, GrownSize,
    GuestError, GuestObservation, GuestParts, GuestSpec, GuestUuid, Guests, HolderCommand, NicSpec,
    QemuBinary, RootDisk, VolumeDisk, VolumeSecrets,
};
use weft_images::{Limits, OverlaySpec, RootDisks, write_file_atomic};
use weft_metadata::{Network, OtherInterface, Seed, SeedInput, hostname, smbios_credentials};
use weft_model::{
    BootMode, DataSecret, Digest, DiskFormat, DiskLimits, GuestFigures, GuestSize, InstanceId,
    InterfaceId, PRIMARY_DEVICE_INDEX, Throttles, Timestamp, VolumeId, search_domain,
};
use weft_planner::{
    GuestLaunch, GuestNic, GuestState, SeedContent, SeenNics, SeenSize, SeenVolumes,
};

use crate::config::Directories;
use crate::error_chain::ErrorChain;
use crate::host::pools::Pools;
use crate::host::{HostError, SeenGuest, Starved};

/// Guests see the whole frame that an Ethernet link carries.
const MTU_BYTES: u16 = 1500;

#[derive(Debug)]
pub(super) struct LinuxGuests {
    pub(super) guests: Guests,
    qemu: QemuBinary,
    accel: Accel,
    holder: HolderCommand,
    pub(super) disks: RootDisks,
    pub(super) pools: Pools,
    /// Where each instance's disks are.
    instances: PathBuf,
}

fn failed(what: String) -> impl FnOnce(GuestError) -> HostError {
    move |error| HostError::new(what, error.is_retryable()).caused_by(error)
}

impl LinuxGuests {
    pub(super) async fn open(
        directories: &Directories,
        pools: Pools,
        qemu: QemuBinary,
        accel: Accel,
        holder: PathBuf,
    ) -> Result<Self, HostError> {
        let instances = directories.instances();
        make_dir(&instances)?;
        boot::forget_other_boots(directories)?;
        crate::strays::end(&directories.runtime_dir).map_err(|error| {
            HostError::new("end guests whose records are lost", true).caused_by(error)
        })?;
        Ok(Self {
            guests: Guests::in_cgroups(
                directories.guests(),
                boot::cgroups(&directories.prefix).await?,
            ),
            qemu,
            accel,
            holder: HolderCommand {
                program: holder,
                args: vec!["hold-guest".to_owned(), "--spec".to_owned()],
            },
            disks: RootDisks::new("qemu-img", Limits::default()),
            pools,
            instances,
        })
    }

    /// MiB of the host that a guest takes.
    pub(super) fn memory_cost_mib(&self, memory_mib: u32, display: bool) -> u64 {
        self.accel.memory_cost_mib(memory_mib, display)
    }

    pub(super) fn cgroups(&self) -> &Cgroups {
        self.guests.cgroups()
    }

    fn dir(&self, id: &InstanceId) -> PathBuf {
        self.instances.join(id.as_str())
    }

    pub(super) fn root(&self, id: &InstanceId) -> PathBuf {
        self.dir(id).join("root.qcow2")
    }

    fn seed(&self, id: &InstanceId) -> PathBuf {
        self.dir(id).join("seed.img")
    }

    fn credentials(&self, id: &InstanceId) -> PathBuf {
        self.dir(id).join("credentials")
    }

    pub(super) async fn make_root_disk(
        &self,
        id: &InstanceId,
        blob: &Path,
        format: DiskFormat,
        size_bytes: u64,
        uid: u32,
    ) -> Result<(), HostError> {
        make_dir(&self.dir(id))?;
        let overlay = OverlaySpec {
            path: self.root(id),
            backing: blob.to_owned(),
            backing_format: format,
            size_bytes,
            uid,
        };
        self.disks.create_overlay(&overlay).await.map(|_| ()).map_err(|error| {
            HostError::new(format!("make the root disk of {id}"), error.is_retryable())
                .caused_by(error)
        })
    }

    pub(super) async fn write_seed(
        &self,
        id: &InstanceId,
        seed: &SeedContent,
        uid: u32,
    ) -> Result<(), HostError> {
        make_dir(&self.dir(id))?;
        let input = SeedInput {
            instance_id: seed.instance_id.to_string(),
            hostname: hostname(seed.name.as_deref(), seed.address),
            public_keys: seed.public_keys.clone(),
            host_key: seed.host_key.clone(),
            network: Network {
                mac: seed.mac,
                address: seed.address,
                ipv6: seed.ipv6,
                prefix_len: seed.prefix_len,
                gateway: seed.gateway,
                on_lan: seed.on_lan,
                dns: seed.dns_servers.clone(),
                search: search_domain(&seed.dns_servers, seed.gateway),
                mtu: MTU_BYTES,
            },
            others: seed
                .others
                .iter()
                .map(|other| OtherInterface {
                    mac: other.mac,
                    address: other.address,
                    ipv6: other.ipv6,
                    prefix_len: other.prefix_len,
                })
                .collect(),
            user_data: seed.user_data.as_ref().map(|data| data.0.clone()),
        };
        let what = || format!("write the seed of {id}");
        let volume = Seed::new(&input)
            .to_disk_image()
            .map_err(|error| HostError::new(what(), false).caused_by(error))?;
        let credentials = smbios_credentials(&seed.host_key).into_bytes();
        // The seed comes last: where it is, both are.
        for (path, content) in [(self.credentials(id), credentials), (self.seed(id), volume)] {
            write_file_atomic(&path, content, uid).await.map_err(|error| {
                let retryable = error.is_retryable();
                HostError::new(what(), retryable).caused_by(error)
            })?;
        }
        Ok(())
    }

    /// OVMF, with the guest's own variables: made at its first start, kept from then on.
    async fn uefi(&self, id: &InstanceId, uid: u32) -> Result<Boot, HostError> {
        let Some(Firmware { code, variables: template }) = Firmware::find() else {
            let what = format!("start the guest of {id}: the host has no UEFI firmware");
            return Err(HostError::new(format!("{what}; {}", Firmware::REMEDY), true));
        };
        let variables = self.dir(id).join("efi-variables.fd");
        if !variables.exists() {
            let what = || format!("make the EFI variables of {id} from {}", template.display());
            let content = tokio::fs::read(&template)
                .await
                .map_err(|error| HostError::new(what(), true).caused_by(error))?;
            write_file_atomic(&variables, content, uid)
                .await
                .map_err(|error| HostError::new(what(), error.is_retryable()).caused_by(error))?;
        }
        Ok(Boot::Uefi { code, variables })
    }

    pub(super) async fn start(
        &self,
        launch: &GuestLaunch,
        netns: PathBuf,
        volumes: Vec<VolumeDisk>,
        secrets: VolumeSecrets,
        blob: impl Fn(&Digest) -> PathBuf,
    ) -> Result<(), HostError> {
        let id = &launch.instance_id;
        let image = &launch.image;
        let boot = match (image.boot_mode, &image.kernel) {
            (BootMode::DirectKernel, Some(kernel)) => Boot::DirectKernel {
                kernel: blob(&kernel.kernel),
                initrd: kernel.initrd.as_ref().map(&blob),
                cmdline: kernel.cmdline.clone(),
            },
            (BootMode::Uefi, _) => self.uefi(id, launch.uid).await?,
            _ => Boot::Bios,
        };
        let layers = launch.root_layers.iter().map(|id| self.pools.layer(id));
        let layers = layers.collect::<Result<_, _>>()?;
        let saved = self.resume_of(launch).await?;
        if saved.is_none() {
            // That was of the guest before it.
            self.freeze_note(id).remove().map_err(|error| {
                HostError::new(format!("start the guest of {id}"), true).caused_by(error)
            })?;
        }
        let (resume, booted) = saved.unzip();
        let Booted { size, maxima, parts } = booted.flatten().unwrap_or_else(|| Booted {
            size: GuestSize { vcpus: launch.vcpus, memory_mib: launch.memory_mib },
            maxima: launch.maxima,
            parts: GuestParts::default(),
        });
        let spec = GuestSpec {
            instance_id: id.clone(),
            epoch: launch.epoch,
            uuid: uuid_of(id),
            name: launch.name.clone(),
            uid: launch.uid,
            qemu: self.qemu.clone(),
            vcpus: size.vcpus,
            memory_mib: size.memory_mib,
            maxima,
            parts,
            accel: self.accel,
            boot,
            root: RootDisk {
                overlay: self.root(id),
                layers,
                backing: BackingImage { path: blob(&image.disk), format: image.format },
            },
            seed: Some(self.seed(id)),
            // Not there where an agent before this wrote the seed.
            credentials: Some(self.credentials(id)).filter(|path| path.exists()),
            volumes,
            guest_agent: resume.as_ref().is_none_or(|resume| resume.guest_agent),
            resume,
            display: launch.display,
            nics: launch.nics.iter().map(|nic| nic_spec(nic, &netns)).collect(),
        };
        self.check_disks(&spec).await?;
        self.warn_of_too_many_vcpus(&spec);
        match self.guests.launch_with(&spec, &self.holder, &secrets).await {
            // An earlier attempt got this far before the agent died.
            Err(GuestError::AlreadyRunning { .. }) => Ok(()),
            other if launch.resume => other.map_err(failed(memory::not_read_back(id))),
            other => other.map_err(failed(format!("start the guest of {id}"))),
        }
    }

    pub(super) async fn plug(
        &self,
        id: &InstanceId,
        nic: &GuestNic,
        netns: &Path,
    ) -> Result<(), HostError> {
        let GuestNic { interface_id, device_index, link, mac } = nic;
        let plugged = self.guests.plug(id, interface_id, (link, *mac), *device_index, netns).await;
        // Whatever QEMU refuses now, it may take later: when another one has left the port.
        plugged.map_err(|error| {
            HostError::new(format!("plug {interface_id} into the guest of {id}"), true)
                .caused_by(error)
        })
    }

    pub(super) async fn unplug(
        &self,
        id: &InstanceId,
        interface_id: &InterfaceId,
    ) -> Result<(), HostError> {
        self.guests.unplug(id, interface_id).await.map_err(|error| {
            HostError::new(format!("take {interface_id} from the guest of {id}"), true)
                .caused_by(error)
        })
    }

    pub(super) async fn plug_volume(
        &self,
        id: &InstanceId,
        disk: &VolumeDisk,
        secret: Option<&DataSecret>,
    ) -> Result<(), HostError> {
        // Whatever QEMU refuses now, it may take later.
        self.guests.plug_volume(id, disk, secret).await.map_err(|error| {
            let what = format!("plug {} into the guest of {id}", disk.volume_id);
            HostError::new(what, true).caused_by(error)
        })
    }

    pub(super) async fn unplug_volume(
        &self,
        id: &InstanceId,
        volume_id: &VolumeId,
    ) -> Result<(), HostError> {
        self.guests.unplug_volume(id, volume_id).await.map_err(|error| {
            HostError::new(format!("take {volume_id} from the guest of {id}"), true)
                .caused_by(error)
        })
    }

    /// Keeps a disk of a guest that runs to its limits; `device` is what its hypervisor calls it.
    pub(super) async fn limit_disk(
        &self,
        id: &InstanceId,
        device: &str,
        limits: DiskLimits,
    ) -> Result<(), HostError> {
        // A guest that has just ended, or does not have it any more: another look tells.
        self.guests.limit_disk(id, device, limits).await.map_err(|error| {
            HostError::new(format!("limit {device} of the guest of {id}"), true).caused_by(error)
        })
    }

    /// What a guest that runs has. One that does not answer may have anything.
    async fn devices(
        &self,
        id: &InstanceId,
        observed: &GuestObservation,
    ) -> (SeenNics, SeenVolumes, Throttles, SeenSize) {
        let unknown =
            || (SeenNics::Unknown, SeenVolumes::Unknown, Throttles::default(), SeenSize::Unknown);
        if !matches!(observed, GuestObservation::Running { .. }) {
            return unknown();
        }
        let seen = async {
            let devices = self.guests.devices(id).await?;
            Ok((devices, self.guests.throttles(id).await?, self.guests.grown_size(id).await?))
        };
        let ((nics, volumes), throttles, grown) = match seen.await {
            Ok(seen) => seen,
            Err(error) => {
                let error: GuestError = error;
                tracing::debug!(instance.id = %id, error = %ErrorChain(&error), "its devices are not known");
                return unknown();
            }
        };
        let nics = match nics.can_be_given {
            true => SeenNics::Has(nics.named),
            false => SeenNics::Fixed,
        };
        let volumes = match volumes.can_be_given {
            true => SeenVolumes::Has(volumes.attached),
            false => SeenVolumes::Fixed,
        };
        let size = match grown {
            Some(GrownSize { size, slots }) => SeenSize::Has { size, slots },
            None => SeenSize::Fixed,
        };
        (nics, volumes, throttles, size)
    }

    /// Seen with QEMU 7.2 to 10.0: such guests hang now and then while they boot, their virtual
    /// processors waiting for one that does not get to run.
    fn warn_of_too_many_vcpus(&self, spec: &GuestSpec) {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let vcpus = usize::try_from(spec.size().vcpus).unwrap_or(usize::MAX);
        if matches!(spec.accel, Accel::Tcg { .. }) && vcpus > processors {
            tracing::warn!(
                instance.id = %spec.instance_id,
                vcpus,
                processors,
                "more vCPUs than the host has processors: without KVM such guests are slow and \
                 sometimes hang while they boot; choose a smaller instance type"
            );
        }
    }

    pub(super) async fn power_button(&self, id: &InstanceId) -> Result<(), HostError> {
        let pressed = self.guests.power_button(id).await;
        pressed.map_err(failed(format!("press the power button of {id}")))
    }

    pub(super) async fn reset(&self, id: &InstanceId) -> Result<(), HostError> {
        self.guests.reset(id).await.map_err(failed(format!("reset the guest of {id}")))
    }

    pub(super) async fn go_on(&self, id: &InstanceId) -> Result<(), HostError> {
        self.guests.go_on(id).await.map_err(failed(format!("have the guest of {id} go on")))
    }

    pub(super) async fn end(&self, id: &InstanceId) -> Result<(), HostError> {
        let what = || format!("end the guest of {id}");
        self.guests.quit(id).await.map_err(failed(what()))?;
        // It was ended while its memory was written: nobody can use a part of it.
        let removed = self.memory(id).remove_part().await;
        removed.map_err(|error| HostError::new(what(), true).caused_by(error))
    }

    pub(super) async fn forget(&self, id: &InstanceId) -> Result<(), HostError> {
        self.guests.purge(id).await.map_err(failed(format!("clear up after the guest of {id}")))
    }

    pub(super) async fn remove_disks(&self, id: &InstanceId) -> Result<(), HostError> {
        let dir = self.dir(id);
        match tokio::fs::remove_dir_all(&dir).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(HostError::new(format!("remove {}", dir.display()), true).caused_by(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn observe(&self, id: &InstanceId) -> Result<SeenGuest, HostError> {
        let what = || format!("look at the guest of {id}");
        let observed = self.guests.observe(id).await.map_err(failed(what()))?;
        let events = self.guests.events(id).map_err(failed(what()))?;
        let first_console_byte = events
            .first_console_byte_at_unix_ms
            .and_then(|ms| i64::try_from(ms).ok())
            .and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let trouble = trouble(&observed);
        let starved = match &observed {
            GuestObservation::Halted { status, .. } if status == "io-error" => {
                self.starved(id).await
            }
            _ => Starved::No,
        };
        let (nics, volumes, throttles, size) = self.devices(id, &observed).await;
        let run = runs::run(&observed, || self.guests.run(id)).map_err(failed(what()))?;
        let files = self.memory(id);
        let Freezes { left_frozen, layers } = self.freezes(id, &observed)?;
        let guest = match self.saving(id, &files, &observed).await {
            Some(saving) => saving,
            None => judge(observed),
        };
        Ok(SeenGuest {
            run,
            memory: files.is_saved(),
            resumed: self.guests.is_resumed(id).map_err(failed(what()))?,
            nics,
            volumes,
            throttles,
            size,
            said: Vec::new(),
            trouble,
            starved,
            folder: self.dir(id).exists(),
            left_frozen,
            layers_of_freezes: layers,
            root_disk: self.root(id).exists(),
            seed: self.seed(id).exists(),
            guest,
            first_console_byte,
        })
    }

    pub(super) async fn has_root_disk(&self, id: &InstanceId) -> Result<bool, HostError> {
        let found = tokio::fs::try_exists(self.root(id)).await;
        found.map_err(|error| {
            HostError::new(format!("look for the root disk of {id}"), true).caused_by(error)
        })
    }

    pub(super) async fn root_disk_bytes(&self, id: &InstanceId) -> Option<u64> {
        self.disks.disk_bytes(&self.root(id)).await.unwrap_or_default()
    }

    pub(super) async fn figures(&self, id: &InstanceId) -> Result<Option<GuestFigures>, HostError> {
        self.guests.figures(id).await.map_err(failed(format!("measure the guest of {id}")))
    }

    pub(super) fn list(&self) -> Result<BTreeSet<InstanceId>, HostError> {
        let running = self.guests.list().map_err(failed("list the guests".to_owned()))?;
        let mut ids: BTreeSet<InstanceId> = running.into_iter().collect();
        let listing = |error| {
            HostError::new(format!("list {}", self.instances.display()), true).caused_by(error)
        };
        for entry in std::fs::read_dir(&self.instances).map_err(listing)? {
            let name = entry.map_err(listing)?.file_name();
            ids.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        Ok(ids)
    }

    /// Files of namespaces that guests are in.
    pub(super) fn netns_paths(&self) -> Vec<PathBuf> {
        self.guests.netns_paths()
    }

    pub(super) fn hints(&self) -> broadcast::Receiver<InstanceId> {
        self.guests.hints()
    }
}

/// The interface that a guest was made with keeps its slot; the others are in ports.
fn nic_spec(nic: &GuestNic, netns: &Path) -> NicSpec {
    NicSpec {
        link: nic.link.clone(),
        mac: nic.mac,
        netns: Some(netns.to_owned()),
        id: Some(nic.interface_id.clone()),
        port: (nic.device_index != PRIMARY_DEVICE_INDEX).then_some(nic.device_index),
    }
}

/// The same for every launch of an instance, as a machine's UUID is.
fn uuid_of(id: &InstanceId) -> GuestUuid {
    let hash: [u8; 32] = Sha256::digest(id.as_str()).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    GuestUuid::recognised_as_ec2(bytes)
}

/// What people are told of a guest that has its processes and does not run as it should.
fn trouble(observed: &GuestObservation) -> Option<String> {
    match observed {
        GuestObservation::Halted { status, .. } if status == "io-error" => Some(
            "the guest is paused by an I/O error; a full disk is the usual cause: make room, and \
             it goes on by itself"
                .to_owned(),
        ),
        GuestObservation::Halted { status, .. } => {
            Some(format!("the guest does not run: its hypervisor says \"{status}\""))
        }
        GuestObservation::Unresponsive { reason, .. } => {
            Some(format!("its hypervisor does not answer: {reason}"))
        }
        GuestObservation::Running { guest } if !guest.holder.is_alive() => Some(
            "the process that held its console was killed: the guest runs on without console and \
             console log; stop and start it to have them again"
                .to_owned(),
        ),
        _ => None,
    }
}

/// What the planner is told. A guest that QEMU has halted, or whose QEMU does not answer, still
/// has its processes: it counts as running until somebody stops it.
fn judge(observed: GuestObservation) -> GuestState {
    match observed {
        GuestObservation::Absent => GuestState::Absent,
        GuestObservation::Starting { epoch } => GuestState::Running { epoch },
        GuestObservation::Running { guest }
        | GuestObservation::Halted { guest, .. }
        | GuestObservation::Unresponsive { guest, .. } => {
            GuestState::Running { epoch: guest.epoch }
        }
        GuestObservation::PoweredOff { guest } => GuestState::PoweredOff { epoch: guest.epoch },
        GuestObservation::Loading { guest } => GuestState::Loading { epoch: guest.epoch },
        GuestObservation::Loaded { guest } => GuestState::Loaded { epoch: guest.epoch },
        GuestObservation::Panicked { guest } => GuestState::Panicked { epoch: guest.epoch },
        GuestObservation::Exited { exit } => {
            let mut how = match exit.cause {
                ExitCause::Signal(signal) => {
                    format!("its hypervisor was killed from outside by signal {signal}")
                }
                cause => format!("its hypervisor {cause}"),
            };
            let stderr = exit.stderr_tail.trim();
            if !stderr.is_empty() {
                how.push_str(": ");
                how.push_str(stderr);
            }
            GuestState::Exited { epoch: exit.epoch, how }
        }
    }
}

/// Only root may enter: disks belong to the guests' own uids.
pub(super) fn make_dir(dir: &Path) -> Result<(), HostError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        HostError::new(format!("make the directory {}", dir.display()), true).caused_by(error)
    })
}

#[cfg(test)]
mod tests;
