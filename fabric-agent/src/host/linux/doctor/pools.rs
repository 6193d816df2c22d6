//! Storage pools: where each is, on which file system, and how much room it has.

use std::fs;
use std::path::Path;

use weft_model::PoolName;

use super::{LOW_DISK_GIB, failed, ok, warning};
use crate::host::Check;
use crate::host::pools::{Pool, Pools, Room};

const NAME: &str = "pool";

/// A line for each pool, also for those that the agent had and was not given.
pub(crate) fn checks(pools: &Pools) -> Vec<Check> {
    let given = pools.all().map(|(name, pool)| check(name, pool));
    let absent = pools.absent().map(|(name, dir)| {
        let dir = dir.display();
        warning(
            NAME,
            format!("{name}: the agent was started without it; it was in {dir}"),
            format!("fabric-agent serve --pool {name}={dir}; it is forgotten once it is empty"),
        )
    });
    given.chain(absent).collect()
}

fn check(name: &PoolName, pool: &Pool) -> Check {
    let dir = pool.dir.display();
    if !pool.is_there(name) {
        return failed(
            NAME,
            format!("{name}: not in {dir} now: volumes of this type cannot be used"),
            format!("mount {dir}; findmnt --target {dir} tells what is there"),
        );
    }
    // Before the first start there is no state directory yet: the disk that it will be on counts.
    let there = pool.dir.ancestors().find(|dir| dir.exists()).unwrap_or(&pool.dir);
    let room = match Room::of(there) {
        Ok(room) => room,
        Err(error) => {
            let remedy = format!("findmnt --target {dir}");
            return failed(NAME, format!("{name}: cannot look at {dir}: {error}"), remedy);
        }
    };
    let file_system = file_system(there).unwrap_or_else(|| "unknown file system".to_owned());
    let shared = if pool.shared { ", shared" } else { "" };
    let finding = format!(
        "{name}: {dir} ({file_system}{shared}), {} of {} GiB free",
        room.free_bytes >> 30,
        room.size_bytes >> 30
    );
    match room.free_bytes >> 30 < LOW_DISK_GIB {
        false => ok(NAME, finding),
        true => warning(
            NAME,
            format!("{finding}: guests that write to it stop when it is full"),
            match *name == PoolName::standard() {
                true => "weft ls images, weft rm IMAGE; or move --state-dir to a larger disk",
                false => "weft ls volumes, weft ls snapshots, weft rm ID; or grow the file system",
            },
        ),
    }
}

/// The type of the file system that `dir` is in: of the last mount over the longest part of its path
/// (proc_pid_mountinfo(5)).
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    file_system_in(&table, &dir)
}

fn file_system_in(table: &str, dir: &Path) -> Option<String> {
    let mounts = table.lines().filter_map(|line| {
        let (mount, of) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        Some((point, of.split(' ').next()?))
    });
    let over = mounts.filter(|(point, _)| dir.starts_with(point));
    over.max_by_key(|(point, _)| point.len()).map(|(_, of)| of.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_that_of_the_nearest_mount() {
        let table = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     30 22 0:5 / /mnt rw shared:1 - tmpfs none rw\n\
                     31 30 0:6 / /mnt/my\\040disk rw - xfs /dev/sdb rw\n\
                     32 30 0:7 / /mnt rw - nfs4 server:/x rw\n";
        let of = |dir: &str| file_system_in(table, Path::new(dir));
        assert_eq!(of("/mnt/my disk/a").as_deref(), Some("xfs"));
        assert_eq!(of("/mnt/other").as_deref(), Some("nfs4"), "the later mount hides the other");
        assert_eq!(of("/mntx").as_deref(), Some("ext4"));
    }
}
