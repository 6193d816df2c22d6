//! What a lab left behind on the machine: by its mark, whoever its parent is by then.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The variable that holds a lab's mark.
pub(crate) const MARK: &str = "WEFT_LAB";

/// A process of a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningProcess {
    /// Its id.
    pub pid: i32,
    /// Its command line, words separated by spaces.
    pub command: String,
}

/// Living processes of a lab: they carry its mark in their environment, name its directory in
/// their command line, or have a file of it open (a hypervisor has only that). Zombies do not
/// count: they are their parent's.
pub fn marked_processes(directory: &Path) -> Vec<RunningProcess> {
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != own).filter_map(|pid| marked(pid, directory)).collect()
}

fn marked(pid: i32, directory: &Path) -> Option<RunningProcess> {
    let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
    // A process that is gone, or a zombie, has an empty command line.
    let cmdline = file("cmdline").filter(|bytes| !bytes.is_empty())?;
    let path = directory.as_os_str().as_bytes();
    let mark = [MARK.as_bytes(), b"=", path].concat();
    let by_mark = || file("environ").is_some_and(|env| env.split(|b| *b == 0).any(|v| v == mark));
    let ours = contains(&cmdline, path) || by_mark() || has_open_file(pid, directory);
    ours.then(|| RunningProcess { pid, command: words(&cmdline) })
}

fn words(cmdline: &[u8]) -> String {
    let words = cmdline.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    words.collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

fn has_open_file(pid: i32, directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(directory)))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Mounts at or below the directory, or of something below it.
pub(crate) fn mounts(directory: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let directory = directory.to_string_lossy();
    table.lines().filter(|line| line.contains(directory.as_ref())).map(str::to_owned).collect()
}

/// Control groups below `weft.slice` whose name has `id` in it, in whatever hierarchy.
pub(crate) fn control_groups(id: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let slices = hierarchies.chain([root.to_owned()]).map(|path| path.join("weft.slice"));
    let groups = slices.flat_map(|slice| fs::read_dir(slice).into_iter().flatten().flatten());
    let named = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().contains(id));
    groups.map(|entry| entry.path()).filter(named).collect()
}

/// Every file below the directories, except those that `expected` names.
pub(crate) fn files(roots: &[&Path], expected: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = roots.iter().map(|root| root.to_path_buf()).collect();
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(path.clone());
            }
            if !expected(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// Links of the machine's own network namespace.
pub(crate) fn links() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let name = |name: &OsStr| name.to_string_lossy().into_owned();
    let mut links: Vec<_> = entries.flatten().map(|entry| name(&entry.file_name())).collect();
    links.sort();
    links
}
