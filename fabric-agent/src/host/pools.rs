//! Storage pools: the directories that volumes' disks are in, and what is where in them.
//!
//! ```text
//!   POOL/volumes/VOL/disk.qcow2   what one guest writes
//!   POOL/layers/LAYER.qcow2       sealed: what several disks may lie over
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use weft_model::{LayerId, PoolName, Problem, VolumeId};

use super::HostError;
use crate::config::Directories;

/// The pools of one host, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pools(BTreeMap<PoolName, PathBuf>);

impl Pools {
    /// The pool that every agent has, in its state directory.
    pub(crate) fn of(directories: &Directories) -> Self {
        Self([(PoolName::standard(), directories.state_dir.clone())].into())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &PoolName> {
        self.0.keys()
    }

    /// # Errors
    /// There is none of this name: a [`Problem`] at `type`.
    pub(crate) fn check(&self, name: &PoolName) -> Result<(), Problem> {
        if self.0.contains_key(name) {
            return Ok(());
        }
        let names: Vec<&str> = self.names().map(PoolName::as_str).collect();
        Err(Problem::invalid("type", format!("the host has no storage pool \"{name}\"")).remedy(
            format!("use one of: {}; others are given to the agent with --pool", names.join(", ")),
        ))
    }

    /// The pool's directory.
    ///
    /// # Errors
    /// The agent was started without this pool.
    pub(crate) fn dir(&self, name: &PoolName) -> Result<&Path, HostError> {
        self.0.get(name).map(PathBuf::as_path).ok_or_else(|| {
            let what = format!(
                "the agent was started without the storage pool \"{name}\": give it --pool \
                 {name}=DIRECTORY again"
            );
            HostError::new(what, true)
        })
    }

    /// Where volumes' folders are, in every pool.
    pub(crate) fn volumes_dirs(&self) -> impl Iterator<Item = (&PoolName, PathBuf)> {
        self.0.iter().map(|(name, dir)| (name, dir.join("volumes")))
    }

    /// The folder of one volume.
    pub(crate) fn volume_dir(&self, pool: &PoolName, id: &VolumeId) -> Result<PathBuf, HostError> {
        Ok(self.dir(pool)?.join("volumes").join(id.as_str()))
    }

    /// The disk that a guest writes.
    pub(crate) fn disk(&self, pool: &PoolName, id: &VolumeId) -> Result<PathBuf, HostError> {
        Ok(self.volume_dir(pool, id)?.join("disk.qcow2"))
    }

    /// A sealed layer.
    pub(crate) fn layer(&self, pool: &PoolName, id: &LayerId) -> Result<PathBuf, HostError> {
        Ok(self.dir(pool)?.join("layers").join(format!("{id}.qcow2")))
    }
}
