//! Holders of this agent that no record names any more: their runtime directory was lost. Left
//! alone, their guests would run unseen, and their disks be given to others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use weft_hypervisor::ProcessIdentity;

/// A process that holds a guest or a namespace, and the record that its command line names.
#[derive(Debug)]
struct Holder {
    process: ProcessIdentity,
    record: PathBuf,
}

/// Ends every holder whose record was in `runtime_dir` and is there no more, with its guest.
/// Returns how many processes were ended.
///
/// # Errors
/// `/proc` cannot be read, or a process cannot be ended.
pub(crate) fn end(runtime_dir: &Path) -> std::io::Result<usize> {
    let mut ended = 0;
    let children = children()?;
    for holder in holders(runtime_dir)?.into_iter().filter(|holder| !holder.record.exists()) {
        let record = holder.record.display();
        tracing::warn!(process.pid = holder.process.pid, %record, "ending a holder whose record is lost");
        // The holder first: it cannot start another hypervisor then.
        let guests = children.get(&holder.process.pid).cloned().unwrap_or_default();
        for process in std::iter::once(holder.process).chain(guests) {
            process.kill()?;
            ended += 1;
        }
    }
    Ok(ended)
}

/// Living processes with one of the holders' subcommands and a record in `runtime_dir`.
fn holders(runtime_dir: &Path) -> std::io::Result<Vec<Holder>> {
    let mut found = Vec::new();
    for pid in pids()? {
        // A process that ends meanwhile is none of them.
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let arguments: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect();
        if !arguments.iter().any(|argument| argument == "hold-guest" || argument == "hold-netns") {
            continue;
        }
        let record = arguments.iter().map(PathBuf::from).find(|path| path.starts_with(runtime_dir));
        if let (Some(process), Some(record)) = (ProcessIdentity::of(pid), record) {
            found.push(Holder { process, record });
        }
    }
    Ok(found)
}

fn children() -> std::io::Result<BTreeMap<i32, Vec<ProcessIdentity>>> {
    let mut children: BTreeMap<i32, Vec<ProcessIdentity>> = BTreeMap::new();
    for pid in pids()? {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        // proc_pid_status(5).
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let parent = parent.and_then(|text| text.trim().parse().ok());
        if let (Some(parent), Some(process)) = (parent, ProcessIdentity::of(pid)) {
            children.entry(parent).or_default().push(process);
        }
    }
    Ok(children)
}

fn pids() -> std::io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    /// A process that looks like a holder, with a child.
    fn holder(record: &Path) -> Child {
        let arguments = ["-c", "sleep 1000; true", "sh", "hold-guest", "--spec"];
        Command::new("sh").args(arguments).arg(record).spawn().unwrap()
    }

    #[test]
    fn a_holder_is_ended_with_its_guest_once_its_record_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, lost) = (dir.path().join("kept.json"), dir.path().join("lost.json"));
        fs::write(&kept, "{}").unwrap();
        let (mut keeper, mut loser) = (holder(&kept), holder(&lost));
        let pid = i32::try_from(loser.id()).unwrap();
        let guest = loop {
            if let Some(guests) = children().unwrap().remove(&pid) {
                break guests[0];
            }
            std::thread::yield_now();
        };
        assert_eq!(end(dir.path()).unwrap(), 2);
        loser.wait().unwrap();
        while guest.is_alive() {
            std::thread::yield_now();
        }
        assert!(keeper.try_wait().unwrap().is_none());
        fs::remove_file(&kept).unwrap();
        assert_eq!(end(dir.path()).unwrap(), 2);
        keeper.wait().unwrap();
    }
}
