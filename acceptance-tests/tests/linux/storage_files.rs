//! Files of guests, images, volumes and layers: which there are, and what has them open.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{run, within};

/// A hypervisor has nothing open that is gone, nor a volume that it does not have, nor a file more
/// often than it needs: as a descriptor that it was started with, and once more to use it.
pub(crate) fn assert_descriptors(pid: i32, state: &Path, has_volume: bool) -> Result<()> {
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        if !target.starts_with(state) {
            continue;
        }
        // The name that it was opened by may be another file's by now.
        let file = std::fs::metadata(entry.path())?;
        let name = target.display();
        ensure!(file.nlink() > 0, "{name} is gone and kept open");
        let is_volume = target.starts_with(state.join("volumes"));
        ensure!(has_volume || !is_volume, "{name} is kept open");
        ensure!(!target.to_string_lossy().contains(".next."), "{name} is half-made");
        let times = open.entry(file.ino()).or_default();
        *times += 1;
        ensure!(*times <= 2, "{name} is open {times} times");
    }
    Ok(())
}

/// Files of guests, images, volumes and layers.
pub(crate) fn files_of(state: &Path) -> BTreeSet<PathBuf> {
    let of = ["instances", "images", "volumes", "layers"];
    of.iter().flat_map(|directory| files(&state.join(directory))).collect()
}

pub(crate) fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => found.extend(files(&entry.path())),
            false => drop(found.insert(entry.path())),
        }
    }
    found
}

/// The files that the guest's disk consists of.
pub(crate) fn chain(state: &Path) -> Result<BTreeSet<PathBuf>> {
    let disks = files(&state.join("instances"));
    let disk = disks.iter().find(|path| path.ends_with("root.qcow2")).context("no disk")?;
    let mut command = Command::new("qemu-img");
    command.args(["info", "-U", "--backing-chain", "--output=json"]).arg(disk);
    let said = run(command, within())?.success()?.stdout;
    let all: serde_json::Value = serde_json::from_str(&said)?;
    let names = all.as_array().into_iter().flatten();
    Ok(names.filter_map(|one| one["filename"].as_str()).map(PathBuf::from).collect())
}

pub(crate) fn contains(path: &Path, text: &str) -> Result<bool> {
    let mut grep = Command::new("grep");
    grep.args(["-q", "-a", "-F", text]).arg(path);
    match run(grep, within())?.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => anyhow::bail!("{} cannot be read", path.display()),
    }
}
