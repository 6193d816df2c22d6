//! Storage pools: the directories that volumes' disks are in, and what is where in them.
//!
//! ```text
//!   POOL/volumes/VOL/disk.qcow2   what one guest writes
//!   POOL/layers/LAYER.qcow2       sealed: what several disks may lie over, also those of other pools
//! ```
//!
//! A directory is used while it has the pool's mark: what is seen of one that is not mounted says
//! nothing of the pool.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use weft_model::{HostId, LayerId, PoolName, Problem, Reason, VolumeId, no_such_pool};

use super::{HostError, Lack};
use crate::config::Directories;
use crate::config::pool::GivenPool;
use crate::store_mark;

/// Free bytes with which a pool takes a new volume, and a guest goes on that a full one has halted.
pub(crate) const ROOM_BYTES: u64 = 16 << 20;

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) dir: PathBuf,
    /// Whether other hosts have the same file system.
    pub(crate) shared: bool,
    /// Whose mark it has to have; the state directory was looked at when the agent started.
    marked: Option<HostId>,
}

/// The room of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) size_bytes: u64,
    /// For the agent.
    pub(crate) free_bytes: u64,
}

impl Room {
    /// Of the file system that `dir` is in.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn of(dir: &Path) -> std::io::Result<Self> {
        let stat = statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        Ok(Self { size_bytes: bytes(stat.blocks()), free_bytes: bytes(stat.blocks_available()) })
    }
}

/// What a copy may take that nobody is waiting for, where guests write meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// At most: half of what is free.
    pub(crate) room_bytes: u64,
    /// It is given up where less than this stays free: the reserve, and a quarter of the rest.
    pub(crate) keep_free_bytes: u64,
}

impl Share {
    /// Of `free_bytes`, of which a reserve is not to be touched.
    pub(crate) fn of(free_bytes: u64, reserve_bytes: u64) -> Self {
        let beside = free_bytes.saturating_sub(reserve_bytes);
        let keep_free_bytes = reserve_bytes.saturating_add(beside / 4);
        Self { room_bytes: beside / 2, keep_free_bytes }
    }
}

/// The pools of one host, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pools {
    pools: BTreeMap<PoolName, Pool>,
    /// Those that the agent had before and was not given at this start, and where they were.
    absent: BTreeMap<PoolName, PathBuf>,
}

impl Pools {
    /// The pool that every agent has, in its state directory, and those that this one was given.
    ///
    /// # Errors
    /// The record of earlier pools cannot be read.
    pub(crate) fn of(
        directories: &Directories,
        given: &[GivenPool],
        host_id: &HostId,
    ) -> anyhow::Result<Self> {
        let mut absent = BTreeMap::new();
        for (name, known) in store_mark::pools::known(directories)? {
            absent.insert(name, known.directory);
        }
        let standard = Pool { dir: directories.state_dir.clone(), shared: false, marked: None };
        let mut pools = BTreeMap::from([(PoolName::standard(), standard)]);
        for GivenPool { name, dir, shared } in given {
            absent.remove(name);
            let (dir, marked) = (dir.clone(), Some(host_id.clone()));
            pools.insert(name.clone(), Pool { dir, shared: *shared, marked });
        }
        Ok(Self { pools, absent })
    }

    /// Those that the agent of these directories had last, for a look without it.
    ///
    /// # Errors
    /// The record or the mark cannot be read.
    pub(crate) fn last_of(directories: &Directories) -> anyhow::Result<Self> {
        let Some(host_id) = store_mark::host_of(directories)? else {
            return Self::of(directories, &[], &HostId::from_random([0; 9]));
        };
        let known = store_mark::pools::known(directories)?.into_iter();
        let given: Vec<GivenPool> = known
            .map(|(name, known)| GivenPool { name, dir: known.directory, shared: known.shared })
            .collect();
        Self::of(directories, &given, &host_id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&PoolName, &Pool)> {
        self.pools.iter()
    }

    /// Those that were not given, and where they were.
    pub(crate) fn absent(&self) -> impl Iterator<Item = (&PoolName, &Path)> {
        self.absent.iter().map(|(name, dir)| (name, dir.as_path()))
    }

    /// Whether a new volume can be in the pool.
    ///
    /// # Errors
    /// There is none of this name, it is not there, or it is full: a [`Problem`] at `type`.
    pub(crate) fn check(&self, name: &PoolName) -> Result<(), Problem> {
        if !self.pools.contains_key(name) && !self.absent.contains_key(name) {
            return Err(no_such_pool(name, self.pools.keys()));
        }
        let gone = |error: HostError| {
            Problem::new(Reason::FailedPrecondition, error.to_string()).at("type")
        };
        let dir = self.dir(name).map_err(gone)?;
        // That of the state directory is looked at by the store, for whatever is new.
        if *name == PoolName::standard()
            || Room::of(dir).is_ok_and(|room| room.free_bytes >= ROOM_BYTES)
        {
            return Ok(());
        }
        let message = format!("the storage pool \"{name}\" is full");
        Err(Problem::new(Reason::ResourceExhausted, message).at("type").remedy(format!(
            "make room in {}, by removing volumes and snapshots for example, or use another type",
            dir.display()
        )))
    }

    /// The pool's directory.
    ///
    /// # Errors
    /// The agent was started without this pool, or its file system is not there.
    pub(crate) fn dir(&self, name: &PoolName) -> Result<&Path, HostError> {
        let Some(pool) = self.pools.get(name) else {
            let dir = self
                .absent
                .get(name)
                .map_or_else(|| "DIRECTORY".into(), |dir| dir.to_string_lossy());
            let what = format!(
                "the agent was started without the storage pool \"{name}\": give it --pool \
                 {name}={dir} again"
            );
            return Err(HostError::new(what, true).lacks(Lack::File));
        };
        if !pool.is_there(name) {
            let what = format!(
                "the storage pool \"{name}\" is not in {} now: mount its file system there",
                pool.dir.display()
            );
            return Err(HostError::new(what, true).lacks(Lack::File));
        }
        Ok(&pool.dir)
    }

    /// The directories of the pools that are there, to look for things in.
    fn there(&self) -> impl Iterator<Item = (&PoolName, &Path)> {
        let there = self.pools.iter().filter(|(name, pool)| pool.is_there(name));
        there.map(|(name, pool)| (name, pool.dir.as_path()))
    }

    /// Where volumes' folders are, in every pool that is there.
    pub(crate) fn volumes_dirs(&self) -> impl Iterator<Item = (&PoolName, PathBuf)> {
        self.there().map(|(name, dir)| (name, dir.join("volumes")))
    }

    /// Where layers are, in every pool that is there.
    pub(crate) fn layers_dirs(&self) -> impl Iterator<Item = PathBuf> {
        self.there().map(|(_, dir)| dir.join("layers"))
    }

    /// The folder of one volume.
    pub(crate) fn volume_dir(&self, pool: &PoolName, id: &VolumeId) -> Result<PathBuf, HostError> {
        Ok(self.dir(pool)?.join("volumes").join(id.as_str()))
    }

    /// The disk that a guest writes.
    pub(crate) fn disk(&self, pool: &PoolName, id: &VolumeId) -> Result<PathBuf, HostError> {
        Ok(self.volume_dir(pool, id)?.join("disk.qcow2"))
    }

    /// Where a disk of this pool is sealed into a layer.
    pub(crate) fn new_layer(&self, pool: &PoolName, id: &LayerId) -> Result<PathBuf, HostError> {
        Ok(layer_in(&self.dir(pool)?.join("layers"), id))
    }

    /// A layer that is there: in the pool of the disk that was sealed, which need not be that of the disk
    /// above it.
    ///
    /// # Errors
    /// No pool has it.
    pub(crate) fn layer(&self, id: &LayerId) -> Result<PathBuf, HostError> {
        let mut places = self.layers_dirs().map(|dir| layer_in(&dir, id));
        if let Some(path) = places.find(|path| path.exists()) {
            return Ok(path);
        }
        let elsewhere: Vec<String> = self
            .pools
            .iter()
            .filter(|(name, pool)| !pool.is_there(name))
            .map(|(name, pool)| (name, &pool.dir))
            .chain(&self.absent)
            .map(|(name, dir)| format!("--pool {name}={}", dir.display()))
            .collect();
        let what = match elsewhere.as_slice() {
            [] => format!("the layer {id} is missing, and what a snapshot had in it"),
            pools => format!(
                "the layer {id}, of a snapshot, is in a storage pool that is not there: mount it, \
                 and give the agent {}",
                pools.join(" ")
            ),
        };
        Err(HostError::new(what, true).lacks(Lack::File))
    }
}

impl Pool {
    /// Whether the directory is the pool now.
    pub(crate) fn is_there(&self, name: &PoolName) -> bool {
        let marked = self.marked.as_ref();
        marked.is_none_or(|host_id| store_mark::pools::is_ours(&self.dir, name, host_id))
    }
}

fn layer_in(dir: &Path, id: &LayerId) -> PathBuf {
    dir.join(format!("{id}.qcow2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_keep_half_of_what_is_free() {
        let of = |free, reserve| {
            let share = Share::of(free, reserve);
            (share.room_bytes, share.keep_free_bytes)
        };
        assert_eq!(of(1000, 200), (400, 400));
        assert_eq!(of(100, 200), (0, 200));
        // What it may take does not end it.
        for free in [0, 1, 7, 1 << 40] {
            let (room, keep) = of(free, 0);
            assert!(free - room >= keep, "{free}");
        }
    }
}
