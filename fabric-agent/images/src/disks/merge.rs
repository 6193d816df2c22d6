//! Making one layer of several neighbours.
//!
//! ```text
//!   LAYER ... LAYER  ──copy, from the lowest──▶  .MERGED.qcow2.new  ──rename──▶  MERGED.qcow2
//! ```
//!
//! What no layer says anything about stays unsaid in the new one, so it shows what lies below all of
//! them; what one of them says to be empty stays empty. For that `qemu-img convert -n -B` is given one
//! layer at a time: it copies what the layer itself has, and nothing of what lies below (`convert_iteration_sectors`
//! in QEMU's `qemu-img.c`, where the target has a backing file). Below the source lies a file of holes,
//! for over nothing all that a layer does not say would count as empty.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};
use weft_model::DiskFormat;

use super::confined::{ConfinedUid, lend};
use super::flatten::{THREADS_TAKE, inherit, over, with_tables};
use super::{Backing, DiskError, DiskSpec, Limits, RootDisks, checked, qemu_img};
use crate::files::{FileError, appear, blocking, temporary};

/// Layers that are to become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeSpec {
    /// The new layer.
    pub to: PathBuf,
    /// The blob below everything, where there is one.
    pub base: Option<Backing>,
    /// The layers between that and those that are merged, bottom to top.
    pub below: Vec<PathBuf>,
    /// What is merged, bottom to top.
    pub layers: Vec<PathBuf>,
    /// What the new file may take at most, in bytes.
    pub room_bytes: u64,
    /// The copy ends where fewer bytes than this are free in the new layer's directory: guests write
    /// meanwhile, and those that find no room stand still.
    pub keep_free_bytes: u64,
}

/// Between two looks at what is free while a layer is copied.
const LOOK: Duration = Duration::from_secs(1);

impl RootDisks {
    /// Writes the new layer, which appears as a whole; one that is there already is left as it is. Others
    /// that use the host's disk and processors come first.
    ///
    /// # Errors
    /// [`DiskError::NoRoom`], before anything was copied where that can be told; [`DiskError::FillsUp`];
    /// [`DiskError::NotAnOverlay`] where a layer is encrypted, or was made to do harm;
    /// [`DiskError::Damaged`], before anything was copied; and those of `qemu-img`.
    pub async fn merge(&self, spec: &MergeSpec) -> Result<(), DiskError> {
        let there = spec.to.clone();
        if !blocking(move || there.exists()).await {
            let size_bytes = self.check_merge(spec).await?;
            let copy = async {
                self.check_tables(spec, size_bytes).await?;
                let copied = self.copy_layers(spec, size_bytes).await;
                weft_crash_points::point("disk.merge.copied");
                copied
            };
            appear(&spec.to, nix::unistd::geteuid().as_raw(), copy).await?;
            weft_crash_points::point("disk.merge.appeared");
        }
        let to = spec.to.clone();
        // As of every layer: whoever gets it as a descriptor may read it.
        blocking(move || {
            fs::set_permissions(&to, Permissions::from_mode(0o444))
                .map_err(FileError::new("set the mode of", &to))
        })
        .await?;
        Ok(())
    }

    /// What a guest sees of the highest layer, in bytes, if they can be merged.
    async fn check_merge(&self, spec: &MergeSpec) -> Result<u64, DiskError> {
        let mut size_bytes = 0;
        for path in spec.below.iter().chain(&spec.layers) {
            let bytes = self.layer_bytes(path).await?;
            // Disks only grow. Where one did not, what lies below would show beyond its end.
            if bytes < size_bytes {
                let (path, what) = (path.clone(), "it is smaller than what lies below it");
                return Err(DiskError::NotAnOverlay { path, what });
            }
            size_bytes = bytes;
        }
        let (layers, room_bytes) = (spec.layers.clone(), spec.room_bytes);
        let used = blocking(move || {
            let used = |path: &PathBuf| match fs::metadata(path) {
                Ok(metadata) => Ok(metadata.blocks() * 512),
                Err(source) => Err(FileError::new("look at", path)(source)),
            };
            layers.iter().map(used).sum::<Result<u64, _>>()
        })
        .await?;
        if used > room_bytes { Err(DiskError::NoRoom { room_bytes }) } else { Ok(size_bytes) }
    }

    /// Checks what stands behind the headers of the layers that are to become one. What a table says to
    /// lie beyond the end of a file reads as zeros: copied, they would stay for good, and a file that is
    /// put back from elsewhere would come too late.
    async fn check_tables(&self, spec: &MergeSpec, size_bytes: u64) -> Result<(), DiskError> {
        for layer in &spec.layers {
            let (opened, user) = (layer.clone(), ConfinedUid::take());
            let (node, fds) = blocking(move || {
                let mut fds = Vec::new();
                let file = File::open(&opened).map_err(FileError::new("open", &opened))?;
                let file = inherit(file, &mut fds);
                let node = json!({ "driver": "qcow2", "file": file, "backing": null });
                Ok::<_, FileError>((OsString::from(format!("json:{node}")), fds))
            })
            .await?;
            let arguments: [&OsStr; 3] = ["check".as_ref(), "-q".as_ref(), &node];
            let limits = self.copy_limits(size_bytes, 0);
            let ran =
                qemu_img::run_confined_over(&self.qemu_img, &user, &arguments, fds, limits).await;
            checked(ran, Some(layer))?;
        }
        Ok(())
    }

    /// What one of the runs over a layer may use; of each layer, as of a whole disk: see `flatten`.
    fn copy_limits(&self, size_bytes: u64, file_size_bytes: u64) -> Limits {
        Limits {
            file_size_bytes,
            cpu_seconds: 60 + (size_bytes >> 26),
            deadline: Duration::from_secs(600 + (size_bytes >> 23)),
            address_space_bytes: self.limits.address_space_bytes.saturating_mul(THREADS_TAKE),
            in_background: true,
        }
    }

    async fn copy_layers(&self, spec: &MergeSpec, size_bytes: u64) -> Result<(), DiskError> {
        let new = temporary(&spec.to);
        let dir = spec.to.parent().unwrap_or_else(|| Path::new("/"));
        self.make_empty(&new, spec, size_bytes).await?;
        let wanted = with_tables(size_bytes);
        let limits = self.copy_limits(size_bytes, wanted.min(spec.room_bytes));
        for layer in &spec.layers {
            let (opened, layer, new) = (spec.clone(), layer.clone(), new.clone());
            let user = ConfinedUid::take();
            let uid = user.number();
            let (source, target, fds) =
                blocking(move || open(&opened, &layer, &new, uid, size_bytes)).await?;
            // Nothing opens what `-B` names where the target is there (`-n`).
            let arguments: [&OsStr; 10] = [
                "convert".as_ref(),
                "-q".as_ref(),
                "-n".as_ref(),
                "-B".as_ref(),
                "below".as_ref(),
                "-F".as_ref(),
                "raw".as_ref(),
                "-Oqcow2".as_ref(),
                &source,
                &target,
            ];
            check_free(dir, spec.keep_free_bytes).await?;
            // What is dropped ends its process.
            let ran = tokio::select! {
                ran = qemu_img::run_confined_over(&self.qemu_img, &user, &arguments, fds, limits) => ran,
                error = fills_up(dir, spec.keep_free_bytes) => Err(error),
            };
            weft_crash_points::point("disk.merge.layer_copied");
            ran.map_err(|error| error.or_no_room(spec.room_bytes, wanted))?;
        }
        Ok(())
    }

    /// A layer that says nothing yet. What its header says to lie below is believed by nobody.
    async fn make_empty(
        &self,
        new: &Path,
        spec: &MergeSpec,
        size_bytes: u64,
    ) -> Result<(), DiskError> {
        let layer = |path: &PathBuf| Backing { path: path.clone(), format: DiskFormat::Qcow2 };
        let below = spec.below.last().map(layer).or_else(|| spec.base.clone());
        self.make_disk(new, &DiskSpec { path: spec.to.clone(), size_bytes, below }, None).await
    }
}

/// Returns when there are fewer free bytes in `dir` than are to stay, or nobody can tell.
async fn fills_up(dir: &Path, keep_free_bytes: u64) -> DiskError {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = check_free(dir, keep_free_bytes).await {
            return error;
        }
    }
}

async fn check_free(dir: &Path, keep_free_bytes: u64) -> Result<(), DiskError> {
    let looked_at = dir.to_owned();
    let stat = blocking(move || {
        statvfs(&looked_at).map_err(|errno| FileError::new("measure", &looked_at)(errno.into()))
    });
    let stat = stat.await?;
    let free_bytes = stat.blocks_available().saturating_mul(stat.fragment_size());
    if free_bytes < keep_free_bytes {
        return Err(DiskError::FillsUp { dir: dir.to_owned(), free_bytes });
    }
    Ok(())
}

/// One layer and the new one as `qemu-img` is to call them, and what it inherits for them; it runs as
/// `uid`.
fn open(
    spec: &MergeSpec,
    layer: &Path,
    new: &Path,
    uid: u32,
    size_bytes: u64,
) -> Result<(OsString, OsString, Vec<OwnedFd>), FileError> {
    let mut fds = Vec::new();
    let read = |path: &Path| File::open(path).map_err(FileError::new("open", path));
    // Where a cluster is written in part, the rest of it comes from below.
    let below = over(spec.base.as_ref(), &spec.below, &mut fds)?;
    let holes = memfd_create(c"holes", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from);
    let holes = holes.map(File::from).and_then(|file| file.set_len(size_bytes).map(|()| file));
    let holes = holes.map_err(FileError::new("make a file in memory for", new))?;
    let source = json!({
        "driver": "qcow2", "file": inherit(read(layer)?, &mut fds),
        "backing": { "driver": "raw", "file": inherit(holes, &mut fds) },
    });
    let target =
        OpenOptions::new().read(true).write(true).open(new).map_err(FileError::new("open", new))?;
    lend(&target, uid).map_err(FileError::new("set the owner of", new))?;
    let target: Value =
        json!({ "driver": "qcow2", "file": inherit(target, &mut fds), "backing": below });
    Ok((format!("json:{source}").into(), format!("json:{target}").into(), fds))
}

#[cfg(test)]
mod tests;
