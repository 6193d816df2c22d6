//! Processes by identity: a pid together with its start time, so that a reused pid is nobody.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::qemu::GuestUuid;
use crate::sys;

/// A tick of `/proc/PID/stat` on every Linux for x86 and ARM (`USER_HZ` is 100).
pub(crate) const MS_PER_TICK: u64 = 10;

/// One process for its whole life, on this boot of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
    pub start_ticks: u64,
}

impl ProcessIdentity {
    /// The process that has `pid` now; none if there is none or it is a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = read_stat(pid)?;
        (!stat.is_dead).then_some(Self { pid, start_ticks: stat.start_ticks })
    }

    /// A child that was not waited for yet, so that nobody else can have its pid; it may have
    /// ended already.
    pub(crate) fn of_child(pid: i32) -> Option<Self> {
        read_stat(pid).map(|stat| Self { pid, start_ticks: stat.start_ticks })
    }

    /// What it has used; nothing where it has ended.
    pub(crate) fn usage(&self) -> Option<ProcessUsage> {
        let stat = read_stat(self.pid)?;
        let is_it = !stat.is_dead && stat.start_ticks == self.start_ticks;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
        is_it.then_some(ProcessUsage {
            cpu_ms: stat.cpu_ticks.saturating_mul(MS_PER_TICK),
            resident_bytes: stat.resident_pages.saturating_mul(u64::try_from(page).ok()?),
        })
    }

    /// The calling process.
    pub(crate) fn current() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// A descriptor that means this process and no other; none if it has ended.
    pub(crate) fn pidfd(&self) -> io::Result<Option<OwnedFd>> {
        match sys::pidfd_open(self.pid) {
            // Checked after opening: the descriptor cannot change its process any more.
            Ok(fd) if self.is_alive() => Ok(Some(fd)),
            Ok(_) => Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends SIGKILL to this process and no other; one that has ended already is no error.
    pub fn kill(&self) -> io::Result<()> {
        let Some(fd) = self.pidfd()? else { return Ok(()) };
        match sys::pidfd_kill(fd.as_fd(), libc::SIGKILL) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether its command line has this UUID as an argument of its own.
    pub(crate) fn has_uuid(&self, uuid: GuestUuid) -> bool {
        let Ok(command_line) = fs::read(format!("/proc/{}/cmdline", self.pid)) else {
            return false;
        };
        let uuid = uuid.to_string();
        command_line.split(|byte| *byte == 0).any(|argument| argument == uuid.as_bytes())
    }
}

/// What a process has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessUsage {
    /// Processor time of all of its threads, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// Bytes of memory that it has now.
    pub(crate) resident_bytes: u64,
}

struct Stat {
    /// It only waits to be reaped.
    is_dead: bool,
    start_ticks: u64,
    cpu_ticks: u64,
    resident_pages: u64,
}

fn read_stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<Stat> {
    // The name may contain spaces and parentheses; what follows the last one is regular.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X" | "x");
    // Counted from 1; the state was field 3. utime and stime are 14 and 15, the start 22, rss 24.
    let user: u64 = fields.nth(10)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(6)?.parse().ok()?;
    let resident_pages = fields.nth(1)?.parse().ok()?;
    Some(Stat { is_dead, start_ticks, cpu_ticks: user + system, resident_pages })
}

/// Every process of user `uid` whose command line has `uuid`: QEMUs that nobody wrote down.
pub(crate) fn find_by_uuid(uid: u32, uuid: GuestUuid) -> io::Result<Vec<ProcessIdentity>> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let ours = entry.metadata().is_ok_and(|metadata| metadata.uid() == uid);
        if let Some(process) = ProcessIdentity::of(pid).filter(|p| ours && p.has_uuid(uuid)) {
            found.push(process);
        }
    }
    Ok(found)
}

/// Names this boot of the machine; pids and start times mean nothing in another.
///
/// # Errors
/// The kernel does not say.
pub fn boot_id() -> io::Result<String> {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 70 7 13 14 15 16 17 18 4242 20 333";
        let living = parse_stat(&format!("7 (a) b) ) {tail}")).unwrap();
        assert_eq!((living.is_dead, living.start_ticks), (false, 4242));
        assert_eq!((living.cpu_ticks, living.resident_pages), (77, 333));
        let zombie = parse_stat(&format!("7 (qemu) {}", tail.replacen('S', "Z", 1))).unwrap();
        assert_eq!((zombie.is_dead, zombie.start_ticks), (true, 4242));
        assert!(parse_stat("7 (qemu").is_none());
    }

    #[test]
    fn a_process_that_works_has_used_more() {
        let me = ProcessIdentity::current().unwrap();
        let before = me.usage().unwrap();
        assert!(before.resident_bytes > 0);
        // A hundredth of a second is the smallest that is counted.
        while me.usage().unwrap().cpu_ms <= before.cpu_ms {}
    }

    #[test]
    fn a_pid_with_another_start_time_is_another_process() {
        let me = ProcessIdentity::current().unwrap();
        assert!(me.is_alive());
        assert!(me.pidfd().unwrap().is_some());
        let other = ProcessIdentity { start_ticks: me.start_ticks + 1, ..me };
        assert!(!other.is_alive());
        assert!(other.pidfd().unwrap().is_none());
        assert_eq!(other.usage(), None);
        other.kill().unwrap();
    }
}
