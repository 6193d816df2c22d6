//! The root key of encrypted volumes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::paths::binaries;
use crate::process::run;
use crate::wait::within;

/// A new root key, and the directory that it is in: neither a lab's own nor its disks'.
///
/// # Errors
/// The agent's program makes none.
pub fn root_key() -> Result<(TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("volume.key");
    let mut command = Command::new(binaries()?.join("fabric-agent"));
    command.arg("volume-key").arg(&path);
    run(command, within())?.success()?;
    Ok((dir, path))
}
