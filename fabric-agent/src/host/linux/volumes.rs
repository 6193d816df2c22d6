//! Volumes' disks, as files of the storage pools.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use weft_hypervisor::{BackingImage, VolumeDisk};
use weft_images::{Backing, DiskError, DiskSpec, Limits, RootDisks, SealSpec};
use weft_model::{
    Below, DataSecret, Digest, DiskFormat, LayerId, PoolName, Reason, VolumeId, WrappedSecret,
};
use weft_planner::{GuestVolume, SeenDisk, SeenVolume};

use super::guests::make_dir;
use crate::host::HostError;
use crate::host::blobs::Blobs;
use crate::host::pools::Pools;
use crate::volume_keys::VolumeKeys;

#[derive(Debug)]
pub(super) struct LinuxVolumes {
    pools: Pools,
    keys: VolumeKeys,
    disks: RootDisks,
}

fn failed(what: String) -> impl FnOnce(DiskError) -> HostError {
    move |error| {
        let retryable = error.is_retryable();
        HostError::new(what, retryable).reason(Reason::Internal).caused_by(error)
    }
}

impl LinuxVolumes {
    pub(super) fn open(pools: Pools, keys: VolumeKeys) -> Result<Self, HostError> {
        for dir in pools.volumes_dirs().map(|(_, dir)| dir).chain(pools.layers_dirs()) {
            make_dir(&dir)?;
        }
        Ok(Self { pools, keys, disks: RootDisks::new("qemu-img", Limits::default()) })
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }

    pub(super) fn keys(&self) -> &VolumeKeys {
        &self.keys
    }

    /// What encrypts a volume, in the clear.
    ///
    /// # Errors
    /// There is no key for it, or another one.
    pub(super) fn secret(
        &self,
        id: &VolumeId,
        wrapped: Option<&WrappedSecret>,
    ) -> Result<Option<DataSecret>, HostError> {
        self.keys.of_disk(format_args!("the volume {id}"), wrapped)
    }

    pub(super) async fn make(
        &self,
        id: &VolumeId,
        pool: &PoolName,
        size_bytes: u64,
        below: &Below,
        blobs: &Blobs,
        secret: Option<&DataSecret>,
    ) -> Result<(), HostError> {
        make_dir(&self.pools.volume_dir(pool, id)?)?;
        let below = match below.layers.last() {
            Some(layer) => {
                Some(Backing { path: self.pools.layer(layer)?, format: DiskFormat::Qcow2 })
            }
            None => below.base.as_ref().map(|base| blobs.backing(base)),
        };
        let spec = DiskSpec { path: self.pools.disk(pool, id)?, size_bytes, below };
        let what = format!("make the disk of {id} in the storage pool \"{pool}\"");
        self.disks.create_disk(&spec, secret).await.map_err(failed(what))
    }

    /// The files of a volume for its guest, with what lies below from the record.
    pub(super) fn disk_of(
        &self,
        volume: &GuestVolume,
        blob: impl Fn(&Digest) -> PathBuf,
    ) -> Result<VolumeDisk, HostError> {
        let GuestVolume { volume_id, place, pool, below: Below { base, layers }, secret } = volume;
        let base =
            base.iter().map(|base| BackingImage { path: blob(&base.digest), format: base.format });
        let mut below: Vec<BackingImage> = base.collect();
        for layer in layers {
            let (path, format) = (self.pools.layer(layer)?, DiskFormat::Qcow2);
            below.push(BackingImage { path, format });
        }
        let disk = self.pools.disk(pool, volume_id)?;
        let encrypted = secret.is_some();
        Ok(VolumeDisk { volume_id: volume_id.clone(), port: *place, disk, below, encrypted })
    }

    /// What becomes what when a volume is sealed into `layer`.
    pub(super) fn seal_spec(
        &self,
        id: &VolumeId,
        pool: &PoolName,
        layer: &LayerId,
        size_bytes: u64,
    ) -> Result<SealSpec, HostError> {
        Ok(SealSpec {
            top: self.pools.disk(pool, id)?,
            layer: self.pools.new_layer(pool, layer)?,
            size_bytes,
            // It stays the agent's own: whoever opens it for a guest hands it over open.
            uid: nix::unistd::geteuid().as_raw(),
        })
    }

    /// Makes the disk of a volume that no guest has larger.
    pub(super) async fn grow(
        &self,
        id: &VolumeId,
        pool: &PoolName,
        size_bytes: u64,
        secret: Option<&DataSecret>,
    ) -> Result<(), HostError> {
        let disk = self.pools.disk(pool, id)?;
        let grown = self.disks.grow_disk(&disk, size_bytes, secret).await;
        grown.map_err(failed(format!("grow the disk of {id}")))
    }

    pub(super) async fn remove(&self, id: &VolumeId, pool: &PoolName) -> Result<(), HostError> {
        let dir = self.pools.volume_dir(pool, id)?;
        match tokio::fs::remove_dir_all(&dir).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(HostError::new(format!("remove {}", dir.display()), true).caused_by(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn observe(
        &self,
        id: &VolumeId,
        pool: &PoolName,
    ) -> Result<SeenVolume, HostError> {
        let disk = match self.disks.disk_bytes(&self.pools.disk(pool, id)?).await {
            Ok(Some(bytes)) => SeenDisk::There(bytes),
            Ok(None) => SeenDisk::Missing,
            Err(error @ DiskError::NotADisk { .. }) => SeenDisk::Damaged(error.to_string()),
            Err(error) => return Err(failed(format!("look at the disk of {id}"))(error)),
        };
        let there = |(_, dir): &(&PoolName, PathBuf)| dir.join(id.as_str()).exists();
        let pools = self.pools.volumes_dirs().filter(there).map(|(name, _)| name.clone());
        Ok(SeenVolume { pools: pools.collect(), disk })
    }

    pub(super) fn list(&self) -> Result<BTreeSet<VolumeId>, HostError> {
        let mut ids = BTreeSet::new();
        for (_, dir) in self.pools.volumes_dirs() {
            ids.extend(named_in(&dir)?);
        }
        Ok(ids)
    }
}

fn named_in(dir: &Path) -> Result<Vec<VolumeId>, HostError> {
    let listing = |error| HostError::new(format!("list {}", dir.display()), true).caused_by(error);
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(listing)? {
        let name = entry.map_err(listing)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    Ok(ids)
}
