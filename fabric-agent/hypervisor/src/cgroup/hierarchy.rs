//! The kernel's cgroup hierarchies, through mounts that only this process has.
//!
//! What is mounted at `/sys/fs/cgroup` depends on how the agent was started: inside
//! `ip netns exec` there is nothing. So each hierarchy is mounted once more, attached nowhere
//! (fsopen(2), fsmount(2), Linux 5.2), and reached through its descriptor.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsmount, fsopen,
};

use super::CgroupError;

/// What a guest is limited by.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Which interface a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// One hierarchy and what we use of it.
#[derive(Debug)]
pub(super) struct Hierarchy {
    root: OwnedFd,
    pub(super) version: Version,
    pub(super) controllers: Vec<&'static str>,
}

/// Every hierarchy that has a controller for us.
#[derive(Debug)]
pub(super) struct Hierarchies {
    pub(super) all: Vec<Hierarchy>,
}

impl Hierarchies {
    /// Finds each controller where the kernel has it.
    pub(super) fn open() -> Result<Self, CgroupError> {
        let path = "/proc/self/cgroup";
        let table = fs::read_to_string(path)
            .map_err(|source| CgroupError::Open { controllers: CONTROLLERS.join(", "), source })?;
        let mut all = Vec::new();
        let mut of_v2 = CONTROLLERS.to_vec();
        for (controllers, ours) in v1_hierarchies(&table) {
            of_v2.retain(|name| !ours.contains(name));
            all.push(Hierarchy::open(Version::V1, &controllers, ours)?);
        }
        if !of_v2.is_empty() && table.lines().any(|line| line.starts_with("0::")) {
            let mut unified = Hierarchy::open(Version::V2, &[], of_v2)?;
            let offered = unified.read("cgroup.controllers")?;
            unified.controllers.retain(|name| offered.split_whitespace().any(|o| o == *name));
            if !unified.controllers.is_empty() {
                all.push(unified);
            }
        }
        if all.is_empty() { Err(CgroupError::NoControllers) } else { Ok(Self { all }) }
    }

    /// Controllers that no hierarchy has.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let has = |name: &str| self.all.iter().any(|h| h.controllers.contains(&name));
        CONTROLLERS.into_iter().filter(|name| !has(name)).collect()
    }
}

/// The v1 hierarchies of `/proc/self/cgroup` (cgroups(7)) that have a controller for us: all of
/// their controllers, as a mount has to name them, and ours.
fn v1_hierarchies(table: &str) -> Vec<(Vec<&str>, Vec<&'static str>)> {
    let controllers = table.lines().filter_map(|line| line.split(':').nth(1));
    let with_ours = controllers.map(|names| {
        let all: Vec<&str> = names.split(',').collect();
        let ours = CONTROLLERS.into_iter().filter(|name| all.contains(name)).collect();
        (all, ours)
    });
    with_ours.filter(|(_, ours): &(_, Vec<_>)| !ours.is_empty()).collect()
}

impl Hierarchy {
    /// Mounts it, attached nowhere. A v1 hierarchy is found by exactly its controllers.
    fn open(
        version: Version,
        all: &[&str],
        controllers: Vec<&'static str>,
    ) -> Result<Self, CgroupError> {
        let mount = || -> rustix::io::Result<OwnedFd> {
            let kind = if version == Version::V2 { "cgroup2" } else { "cgroup" };
            let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
            for name in all {
                fsconfig_set_flag(&context, *name)?;
            }
            fsconfig_create(&context)?;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        let names = controllers.join(", ");
        let failed = |errno: rustix::io::Errno| CgroupError::Open {
            controllers: names,
            source: errno.into(),
        };
        let root = mount().map_err(failed)?;
        Ok(Self { root, version, controllers })
    }

    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{path}", self.root.as_raw_fd()))
    }

    fn failed(
        &self,
        step: &'static str,
        path: &str,
    ) -> impl FnOnce(io::Error) -> CgroupError + use<> {
        let (path, controllers) = (path.to_owned(), self.controllers.join(", "));
        move |source| CgroupError::Step { step, path, controllers, source }
    }

    pub(super) fn read(&self, path: &str) -> Result<String, CgroupError> {
        fs::read_to_string(self.path(path)).map_err(self.failed("read", path))
    }

    pub(super) fn write(&self, path: &str, value: &str) -> Result<(), CgroupError> {
        // Not created: a file that the kernel does not offer is no file.
        let file = File::options().write(true).open(self.path(path));
        file.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(self.failed("write", path))
    }

    pub(super) fn open_for_writing(&self, path: &str) -> Result<OwnedFd, CgroupError> {
        let file = File::options().write(true).open(self.path(path));
        file.map(OwnedFd::from).map_err(self.failed("open", path))
    }

    /// Makes a group, if there is none.
    pub(super) fn make(&self, path: &str) -> Result<(), CgroupError> {
        match fs::create_dir(self.path(path)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(self.failed("make", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a group, if there is one; false if something is in it.
    pub(super) fn remove(&self, path: &str) -> Result<bool, CgroupError> {
        match fs::remove_dir(self.path(path)) {
            Ok(()) => Ok(true),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => Ok(true),
                io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty => Ok(false),
                _ => Err(self.failed("remove", path)(error)),
            },
        }
    }

    /// Names of the groups in a group; none where there is no such group.
    pub(super) fn children(&self, path: &str) -> Result<Vec<String>, CgroupError> {
        let entries = match fs::read_dir(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(self.failed("list", path))?,
        };
        let is_group = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let groups = entries.flatten().filter(is_group);
        Ok(groups.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v1_hierarchy_is_named_by_all_of_its_controllers() {
        let table = "9:name=systemd:/\n8:pids:/a:b\n3:cpu,cpuacct:/user.slice\n2:blkio:/\n0::/x\n";
        let found = v1_hierarchies(table);
        assert_eq!(found, [(vec!["pids"], vec!["pids"]), (vec!["cpu", "cpuacct"], vec!["cpu"])]);
        assert_eq!(v1_hierarchies("0::/init.scope\n"), []);
    }
}
