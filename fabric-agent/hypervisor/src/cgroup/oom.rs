//! What the kernel's out-of-memory killer has done in a group.

use std::fs;

use super::hierarchy::{Hierarchies, Version};

/// How many processes of the group that this one is in were killed so far, because the group's memory
/// ran out or the host's; `None` where the kernel does not count that.
///
/// The counter `oom_kill`: Linux 4.13 and later, `Documentation/admin-guide/cgroup-v2.rst` and
/// `cgroup-v1/memory.rst`.
pub(crate) fn kills() -> Option<u64> {
    let hierarchies = Hierarchies::open().ok()?;
    let hierarchy = hierarchies.all.iter().find(|it| it.controllers.contains(&"memory"))?;
    let table = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = group(&table, hierarchy.version)?;
    let file = match hierarchy.version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    counted(&hierarchy.read(&format!("{}/{file}", group.trim_start_matches('/'))).ok()?)
}

/// Where a process is in the hierarchy that limits its memory, by its `/proc/PID/cgroup` (cgroups(7)).
fn group(table: &str, version: Version) -> Option<&str> {
    table.lines().find_map(|line| {
        let (hierarchy, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match version {
            Version::V1 => controllers.split(',').any(|name| name == "memory"),
            Version::V2 => hierarchy == "0",
        };
        is_it.then_some(path)
    })
}

fn counted(file: &str) -> Option<u64> {
    file.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_in_the_hierarchy_that_limits_memory() {
        let table = "3:cpu,cpuacct:/a\n5:memory:/weft.slice/g:1\n0::/b\n";
        assert_eq!(group(table, Version::V1), Some("/weft.slice/g:1"));
        assert_eq!(group(table, Version::V2), Some("/b"));
        assert_eq!(group("0::/b\n", Version::V1), None);
    }

    #[test]
    fn processes_that_were_killed_are_counted_in_both_versions() {
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        let events = "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(counted(events), Some(1));
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\n"), None);
    }
}
