//! The layers that disks were sealed into: files of one directory, which only root enters.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use weft_model::LayerId;

use crate::files::{FileError, blocking, remove, sync_dir, temporary, temporary_of};

const SUFFIX: &str = ".qcow2";

/// The layers of one storage pool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Layers {
    dir: PathBuf,
}

impl Layers {
    /// Those in `dir`, which is made where it does not exist.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, FileError> {
        let dir = dir.into();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(FileError::new("make the directory", &dir))?;
        Ok(Self { dir })
    }

    /// Where a layer is, or would be.
    pub fn path(&self, id: &LayerId) -> PathBuf {
        self.dir.join(format!("{id}{SUFFIX}"))
    }

    /// Every layer, whole or just being written, in the order of their ids. Other files are left alone.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn list(&self) -> Result<Vec<LayerId>, FileError> {
        let dir = self.dir.clone();
        blocking(move || {
            let failed = |source| FileError::new("list", &dir)(source);
            let mut ids = Vec::new();
            for entry in fs::read_dir(&dir).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                let name = name.to_str().map(|name| temporary_of(name).unwrap_or(name));
                let id = name.and_then(|name| name.strip_suffix(SUFFIX));
                ids.extend(id.and_then(|id| id.parse::<LayerId>().ok()));
            }
            ids.sort();
            ids.dedup();
            Ok(ids)
        })
        .await
    }

    /// Removes a layer that no disk lies over, and what an attempt to write it has left; one that is
    /// gone already is success.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn remove(&self, id: &LayerId) -> Result<(), FileError> {
        let (path, dir) = (self.path(id), self.dir.clone());
        blocking(move || {
            remove(&temporary(&path))?;
            remove(&path)?;
            weft_crash_points::point("layer.remove.removed");
            sync_dir(&dir)
        })
        .await
    }

    /// What a layer takes of the file system, in bytes.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn size_bytes(&self, id: &LayerId) -> Result<u64, FileError> {
        use std::os::unix::fs::MetadataExt;
        let path = self.path(id);
        blocking(move || {
            let look = |path: &Path| -> io::Result<u64> { Ok(fs::metadata(path)?.blocks() * 512) };
            look(&path).map_err(FileError::new("look at", &path))
        })
        .await
    }
}
