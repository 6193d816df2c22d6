//! A disk that is soon full, for this thread and what it starts alone.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A file system of its own on a directory. It ends with the last process that sees it.
#[derive(Debug)]
pub struct SmallDisk {
    ballast: PathBuf,
}

impl SmallDisk {
    /// Puts one of `mib` MiB on `directory`, which is made.
    ///
    /// # Errors
    /// Without root.
    pub fn at(directory: &Path, mib: u32) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        let (private, none) = (MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
        mount(none, "/", none, private, none).context("keep mounts to ourselves")?;
        let options = format!("size={mib}m,mode=755");
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .context("mount a small disk")?;
        Ok(Self { ballast: directory.join("ballast") })
    }

    /// Fills it to the last block, and gives so many bytes back.
    ///
    /// # Errors
    /// The file system's own.
    pub fn fill_but(&self, bytes: u64) -> Result<()> {
        let mut ballast = OpenOptions::new().create(true).append(true).open(&self.ballast)?;
        for chunk in [vec![1; 1 << 20], vec![1; 4096]] {
            loop {
                match ballast.write(&chunk) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let length = ballast.metadata()?.len();
        Ok(ballast.set_len(length.saturating_sub(bytes))?)
    }

    /// Makes room, and leaves nothing of what filled it.
    ///
    /// # Errors
    /// The file system's own.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(&self.ballast)?)
    }
}
