//! Groups as directories that we make: where no systemd owns the tree.
//!
//! Files and their meaning: Linux `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`.

use std::io;
use std::os::fd::OwnedFd;

use super::hierarchy::{Hierarchies, Hierarchy, Version};
use super::limits::Limits;
use super::{CgroupError, SLICE};

/// `weft.slice` and what is in it, in every hierarchy that we use.
#[derive(Debug)]
pub(super) struct Files {
    hierarchies: Hierarchies,
}

impl Files {
    pub(super) fn new(hierarchies: Hierarchies) -> Self {
        Self { hierarchies }
    }

    /// Makes the slice and passes our controllers on to what will be in it.
    pub(super) fn prepare(&self) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies.all {
            if hierarchy.version == Version::V2 {
                pass_on(hierarchy, "cgroup.subtree_control")?;
            }
            hierarchy.make(SLICE)?;
            if hierarchy.version == Version::V2 {
                pass_on(hierarchy, &format!("{SLICE}/cgroup.subtree_control"))?;
            }
            // All guests together count for as much as processes that use every processor:
            // otherwise they would share what one such process gets.
            set_weight(hierarchy, SLICE, processors())?;
        }
        Ok(())
    }

    pub(super) fn explain(&self) -> Result<String, String> {
        let describe = |hierarchy: &Hierarchy| {
            let version = if hierarchy.version == Version::V2 { "v2" } else { "v1" };
            format!("cgroup {version} ({})", hierarchy.controllers.join(", "))
        };
        let found: Vec<_> = self.hierarchies.all.iter().map(describe).collect();
        let found = format!("guests are limited below {SLICE} by {}", found.join(" and "));
        match self.hierarchies.missing().join(", ") {
            missing if missing.is_empty() => Ok(found),
            missing => Err(format!("{found}; the kernel does not offer {missing}")),
        }
    }

    /// Makes a group with its limits, or sets those of one that is there. Gives the files that
    /// let a process in. A slice that is gone is made anew: it goes with the purge of another agent,
    /// or with a service manager's tidying, while it is empty.
    pub(super) fn make(&self, name: &str, limits: &Limits) -> Result<Vec<OwnedFd>, CgroupError> {
        match self.make_in_slice(name, limits) {
            Err(CgroupError::Step { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.prepare()?;
                self.make_in_slice(name, limits)
            }
            made => made,
        }
    }

    fn make_in_slice(&self, name: &str, limits: &Limits) -> Result<Vec<OwnedFd>, CgroupError> {
        let mut entrances = Vec::new();
        for hierarchy in &self.hierarchies.all {
            let group = format!("{SLICE}/{name}");
            hierarchy.make(&group)?;
            set_limits(hierarchy, &group, limits)?;
            entrances.push(hierarchy.open_for_writing(&format!("{group}/cgroup.procs"))?);
        }
        Ok(entrances)
    }

    /// Changes the limits of a group, where it is there.
    pub(super) fn set(&self, name: &str, limits: &Limits) -> Result<(), CgroupError> {
        let there = self.hierarchies.all.iter();
        there.map(|it| set_limits(it, &format!("{SLICE}/{name}"), limits)).try_for_each(|set| {
            match set {
                Err(CgroupError::Step { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    Ok(())
                }
                set => set,
            }
        })
    }

    pub(super) fn remove(&self, name: &str) -> Result<bool, CgroupError> {
        let mut gone = true;
        for hierarchy in &self.hierarchies.all {
            gone &= hierarchy.remove(&format!("{SLICE}/{name}"))?;
        }
        Ok(gone)
    }

    pub(super) fn sweep(&self, prefix: &str) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies.all {
            for name in hierarchy.children(SLICE)? {
                if name.starts_with(prefix) && hierarchy.remove(&format!("{SLICE}/{name}"))? {
                    tracing::info!(cgroup = name, "removed a group that nothing was in");
                }
            }
        }
        Ok(())
    }

    pub(super) fn remove_slice(&self) -> Result<(), CgroupError> {
        self.hierarchies.all.iter().try_for_each(|hierarchy| hierarchy.remove(SLICE).map(|_| ()))
    }
}

/// Gives the groups below one of cgroup v2 our controllers.
fn pass_on(hierarchy: &Hierarchy, file: &str) -> Result<(), CgroupError> {
    let on: Vec<_> = hierarchy.controllers.iter().map(|name| format!("+{name}")).collect();
    hierarchy.write(file, &on.join(" "))
}

fn set_limits(hierarchy: &Hierarchy, group: &str, limits: &Limits) -> Result<(), CgroupError> {
    let memory = match hierarchy.version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    };
    for (controller, file, value) in
        [("memory", memory, limits.memory_bytes), ("pids", "pids.max", limits.pids)]
    {
        if hierarchy.controllers.contains(&controller) {
            hierarchy.write(&format!("{group}/{file}"), &value.to_string())?;
        }
    }
    set_weight(hierarchy, group, limits.vcpus)
}

fn set_weight(hierarchy: &Hierarchy, group: &str, vcpus: u64) -> Result<(), CgroupError> {
    if !hierarchy.controllers.contains(&"cpu") {
        return Ok(());
    }
    let (file, weight) = match hierarchy.version {
        Version::V1 => ("cpu.shares", Limits::shares(vcpus)),
        Version::V2 => ("cpu.weight", Limits::weight(vcpus)),
    };
    hierarchy.write(&format!("{group}/{file}"), &weight.to_string())
}

fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| u64::try_from(n.get()).unwrap_or(1))
}
