//! Sealing: what a disk has so far becomes a layer that is never written again, and the disk goes on
//! in a new file above it.
//!
//! ```text
//!   disk.qcow2 ──link──▶ layers/LAYER.qcow2      the same file, for a moment under two names
//!   LAYER.next.qcow2 (empty, over the layer)     made beside the disk
//!   (a guest that runs goes over to it here)
//!   LAYER.next.qcow2 ──rename──▶ disk.qcow2
//! ```
//!
//! Each step may be repeated after a crash. How far an earlier attempt got is seen by inodes, never
//! by headers: guests write those. Once a guest may have gone over to the next file there is only
//! the way forward; and where it has not, that file is empty, so forward is right as well.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use weft_model::{DataSecret, DiskFormat};

use super::{Backing, DiskError, DiskSpec, RootDisks};
use crate::files::{FileError, appear, blocking, create_dir, remove, sync_dir, temporary};

/// A disk that is to be sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealSpec {
    /// The file that the disk is written to; also afterwards.
    pub top: PathBuf,
    /// What it becomes, on the same file system.
    pub layer: PathBuf,
    /// What the guest sees, in bytes.
    pub size_bytes: u64,
    /// Whom the new file belongs to: the uid and gid of the guest's hypervisor.
    pub uid: u32,
}

impl SealSpec {
    /// The file that the disk goes on in, before it has the disk's name.
    pub fn next(&self) -> PathBuf {
        let layer = self.layer.file_stem().unwrap_or_default().to_string_lossy();
        self.top.with_file_name(format!("{layer}.next.qcow2"))
    }
}

/// How far a disk's sealing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// The layer has its name and the next file is there: a guest can go over to it.
    Prepared,
    /// The disk is its next file.
    Done,
}

impl RootDisks {
    /// Gives the layer its name and makes the file that the disk goes on in, which `secret` encrypts
    /// as it does the layer.
    ///
    /// # Errors
    /// [`DiskError::Gone`] where there is no disk; [`DiskError::File`] and those of `qemu-img`, of
    /// which a full disk is the usual one. The disk is as it was; [`Self::undo_seal`] gives back
    /// what was made.
    pub async fn prepare_seal(
        &self,
        spec: &SealSpec,
        secret: Option<&DataSecret>,
    ) -> Result<Seal, DiskError> {
        let wanted = spec.clone();
        let linked = blocking(move || link(&wanted)).await?;
        if linked == Seal::Done {
            return Ok(Seal::Done);
        }
        weft_crash_points::point("disk.seal.linked");
        let next = spec.next();
        let there = next.clone();
        if blocking(move || inode(&there)).await?.is_some() {
            return Ok(Seal::Prepared);
        }
        // The layer is not opened: its header is the guest's.
        let below = Backing { path: spec.layer.clone(), format: DiskFormat::Qcow2 };
        let (path, size_bytes) = (next.clone(), spec.size_bytes);
        let over = DiskSpec { path, size_bytes, below: Some(below) };
        let make = async {
            let made = self.make_disk(&temporary(&next), &over, secret).await;
            weft_crash_points::point("disk.seal.overlay_made");
            made
        };
        appear(&next, spec.uid, make).await?;
        weft_crash_points::point("disk.seal.prepared");
        Ok(Seal::Prepared)
    }

    /// Whether the file that the disk goes on in is there, or is the disk already: then the secret is of
    /// no use any more to [`Self::prepare_seal`].
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub async fn is_next_made(&self, spec: &SealSpec) -> Result<bool, DiskError> {
        let spec = spec.clone();
        let made = blocking(move || {
            let layer = inode(&spec.layer)?;
            let is_done = layer.is_some() && layer != inode(&spec.top)?;
            Ok::<_, FileError>(is_done || inode(&spec.next())?.is_some())
        });
        Ok(made.await?)
    }

    /// Gives the next file the disk's name, now that no guest writes to the layer; the layer
    /// belongs to nobody then, and everybody who gets it as a descriptor may read it.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub async fn finish_seal(&self, spec: &SealSpec) -> Result<(), DiskError> {
        let (spec, next) = (spec.clone(), spec.next());
        blocking(move || {
            if inode(&spec.top)? == inode(&spec.layer)? {
                fs::rename(&next, &spec.top).map_err(FileError::new("rename to", &spec.top))?;
            }
            weft_crash_points::point("disk.seal.renamed");
            spec.top.parent().map_or(Ok(()), sync_dir)?;
            let layer = &spec.layer;
            if nix::unistd::geteuid().is_root() {
                std::os::unix::fs::chown(layer, Some(0), Some(0))
                    .map_err(FileError::new("set the owner of", layer))?;
            }
            fs::set_permissions(layer, Permissions::from_mode(0o444))
                .map_err(FileError::new("set the mode of", layer))
        })
        .await?;
        Ok(())
    }

    /// Gives back what [`Self::prepare_seal`] made. No guest may have gone over to it.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub async fn undo_seal(&self, spec: &SealSpec) -> Result<(), DiskError> {
        let (spec, next) = (spec.clone(), spec.next());
        blocking(move || {
            remove(&temporary(&next))?;
            remove(&next)?;
            weft_crash_points::point("disk.seal.next_removed");
            // Never the last name of what a disk has.
            if inode(&spec.layer)?.is_some() && inode(&spec.top)? == inode(&spec.layer)? {
                remove(&spec.layer)?;
                spec.layer.parent().map_or(Ok(()), sync_dir)?;
            }
            Ok::<_, FileError>(())
        })
        .await?;
        Ok(())
    }
}

fn link(spec: &SealSpec) -> Result<Seal, DiskError> {
    let SealSpec { top, layer, .. } = spec;
    let Some(disk) = inode(top)? else { return Err(DiskError::Gone { path: top.clone() }) };
    match inode(layer)? {
        Some(sealed) if sealed != disk => return Ok(Seal::Done),
        Some(_linked_before) => {}
        None => {
            let dir = layer.parent().unwrap_or_else(|| Path::new("/"));
            create_dir(dir)?;
            fs::hard_link(top, layer).map_err(FileError::new("link the disk to", layer))?;
        }
    }
    layer.parent().map_or(Ok(()), sync_dir)?;
    Ok(Seal::Prepared)
}

/// Which file is at `path`.
fn inode(path: &Path) -> Result<Option<(u64, u64)>, FileError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::new("look at", path)(source)),
    }
}

#[cfg(test)]
mod tests;
