//! Files of guests, images, volumes and layers: which there are, and what has them open.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use weft_acceptance::{Lab, run, within};

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

pub(crate) fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|file| file.ino())
}

/// The layers that the guest's disk consists of: what its hypervisor has open. Headers are believed by
/// nobody, and say what was below before layers were merged.
pub(crate) fn chain(lab: &Lab) -> Result<BTreeSet<PathBuf>> {
    let hypervisors = lab.hypervisors();
    ensure!(hypervisors.len() == 1, "{hypervisors:?}");
    let fds = std::fs::read_dir(format!("/proc/{}/fd", hypervisors[0].pid))?;
    // The name that a layer was opened by may be another file's by now: it was the disk's.
    let open: BTreeSet<u64> = fds.flatten().filter_map(|fd| inode(&fd.path())).collect();
    let layers = files(&lab.directory().join("state/layers")).into_iter();
    Ok(layers.filter(|path| inode(path).is_some_and(|it| open.contains(&it))).collect())
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
