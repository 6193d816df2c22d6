//! What QEMU inherits: opened here, with the rights that it does not have.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use weft_model::VolumeId;

use super::{HolderError, at};
use crate::layout::{AGENT_SOCKET, GuestDir, QMP_SOCKET};
use crate::qemu::{Accel, Boot, GuestFds, GuestSpec, NicSpec, VolumeFds};
use crate::secrets::{self, VolumeSecrets};
use crate::tap;

/// Every descriptor of one guest.
pub(super) struct GuestFiles {
    fds: GuestFds,
    /// What `fds` has the numbers of.
    owned: Vec<OwnedFd>,
    namespaces: Vec<Option<File>>,
    /// The groups that QEMU needs where it must open `/dev/kvm` by name.
    kvm_groups: Vec<u32>,
}

impl GuestFiles {
    pub(super) fn open(
        dir: &GuestDir,
        spec: &GuestSpec,
        secrets: &VolumeSecrets,
    ) -> Result<Self, HolderError> {
        let mut owned = Vec::new();
        let mut keep = |fd: OwnedFd| -> RawFd {
            let number = fd.as_raw_fd();
            owned.push(fd);
            number
        };
        let root = keep(open("the root disk", &spec.root.overlay, true)?);
        let mut layers = Vec::new();
        for path in &spec.root.layers {
            layers.push(keep(open("a layer of the root disk", path, false)?));
        }
        let backing = keep(open("the image", &spec.root.backing.path, false)?);
        let seed = match &spec.seed {
            Some(path) => Some(keep(open("the seed", path, false)?)),
            None => None,
        };
        let credentials = match &spec.credentials {
            Some(path) => Some(keep(open("the credentials", path, false)?)),
            None => None,
        };
        let memory = match &spec.resume {
            Some(resume) => Some(keep(open("the saved memory", &resume.path, false)?)),
            None => None,
        };
        let (mut kernel, mut initrd) = (None, None);
        if let Boot::DirectKernel { kernel: kernel_path, initrd: initrd_path, .. } = &spec.boot {
            kernel = Some(keep(open_for_everyone("the kernel", kernel_path)?));
            if let Some(path) = initrd_path {
                initrd = Some(keep(open_for_everyone("the initial ram disk", path)?));
            }
        }
        let (mut efi_code, mut efi_variables) = (None, None);
        if let Boot::Uefi { code, variables } = &spec.boot {
            efi_code = Some(keep(open("the uefi firmware", code, false)?));
            efi_variables = Some(keep(open("the efi variables", variables, true)?));
        }
        let (mut kvm, mut kvm_groups) = (None, Vec::new());
        if spec.accel == Accel::Kvm {
            let path = Path::new("/dev/kvm");
            if spec.qemu.kvm_device_option {
                kvm = Some(keep(open("the device", path, true)?));
            } else {
                kvm_groups = groups_of_kvm(spec, path)?;
            }
        }
        let mut taps = Vec::new();
        let mut namespaces = Vec::new();
        for nic in &spec.nics {
            let (tap, namespace) = open_tap(nic)?;
            taps.push(keep(tap));
            namespaces.push(namespace);
        }
        let mut volumes = Vec::new();
        for volume in &spec.volumes {
            let opened = volume.files().map(|(path, write)| open("a volume's file", path, write));
            let opened: Vec<OwnedFd> = opened.collect::<Result<_, _>>()?;
            let files = opened.into_iter().map(&mut keep).collect();
            let secret = match volume.encrypted {
                true => Some(keep(secret_of(&volume.volume_id, spec.uid, secrets)?)),
                false => None,
            };
            volumes.push(VolumeFds { files, secret });
        }
        let listener = dir.listen(QMP_SOCKET).map_err(at("listen for qmp"))?;
        let qmp = keep(listener.into());
        let agent = match spec.guest_agent {
            true => {
                let listener = dir.listen(AGENT_SOCKET);
                Some(keep(listener.map_err(at("listen for the guest's agent"))?.into()))
            }
            false => None,
        };
        let fds = GuestFds {
            root,
            layers,
            backing,
            seed,
            credentials,
            memory,
            kernel,
            initrd,
            efi_code,
            efi_variables,
            kvm,
            volumes,
            taps,
            qmp,
            agent,
        };
        Ok(Self { fds, owned, namespaces, kvm_groups })
    }

    pub(super) fn fds(&self) -> &GuestFds {
        &self.fds
    }

    /// The numbers of all descriptors that QEMU must find open.
    pub(super) fn inherited(&self) -> Vec<RawFd> {
        self.owned.iter().map(AsRawFd::as_raw_fd).collect()
    }

    pub(super) fn groups(&self) -> Vec<u32> {
        self.kvm_groups.clone()
    }

    pub(super) fn namespace_fds(&self) -> Vec<Option<RawFd>> {
        self.namespaces.iter().map(|file| file.as_ref().map(AsRawFd::as_raw_fd)).collect()
    }

    /// Closes everything but the namespaces: the rest is QEMU's now.
    pub(super) fn into_namespaces(self) -> Vec<Option<File>> {
        self.namespaces
    }
}

fn secret_of(id: &VolumeId, uid: u32, secrets: &VolumeSecrets) -> Result<OwnedFd, HolderError> {
    let missing = || HolderError::NoSecret { volume_id: id.clone() };
    let secret = secrets.get(id).ok_or_else(missing)?;
    secrets::for_qemu(secret, uid).map_err(at("keep a volume's secret in memory"))
}

fn open(what: &'static str, path: &Path, write: bool) -> Result<OwnedFd, HolderError> {
    match OpenOptions::new().read(true).write(write).open(path) {
        Ok(file) => Ok(file.into()),
        Err(source) => Err(HolderError::Open { what, path: path.to_owned(), source }),
    }
}

/// QEMU opens these again through `/proc/self/fd`, under its own user.
fn open_for_everyone(what: &'static str, path: &Path) -> Result<OwnedFd, HolderError> {
    let fd = open(what, path, false)?;
    let file = File::from(fd);
    let failed = |source| HolderError::Open { what, path: path.to_owned(), source };
    if file.metadata().map_err(failed)?.mode() & 0o004 == 0 {
        return Err(HolderError::NotReadable { what, path: path.to_owned() });
    }
    Ok(file.into())
}

fn groups_of_kvm(spec: &GuestSpec, path: &Path) -> Result<Vec<u32>, HolderError> {
    let failed = |source| HolderError::Open { what: "the device", path: path.to_owned(), source };
    let groups = crate::kvm::groups_for(path).map_err(failed)?;
    groups.ok_or(HolderError::KvmGroup { version: spec.qemu.version })
}

/// Opens a tap inside its namespace.
fn open_tap(nic: &NicSpec) -> Result<(OwnedFd, Option<File>), HolderError> {
    let failed = |source| HolderError::Tap { link: nic.link.clone(), source };
    let namespace = match &nic.netns {
        Some(path) => Some(File::open(path).map_err(|source| HolderError::Open {
            what: "the network namespace",
            path: path.clone(),
            source,
        })?),
        None => None,
    };
    let opened = tap::open(&nic.link, namespace.as_ref());
    Ok((opened.map_err(failed)?, namespace))
}
