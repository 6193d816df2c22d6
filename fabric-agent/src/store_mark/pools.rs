//! The same of storage pools: each has a mark of the store that filled it, and the state directory
//! remembers where they were.
//!
//! A pool that is known and has no mark is most likely not mounted: what is made in the directory
//! below would be hidden by it later, and what is in it would seem to be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use weft_crash_points as crash_points;
use weft_model::{HostId, PoolName};
use weft_store::Revision;

use super::{FILE, Mark, NEW_FILE, has_entries, read, write};
use crate::config::Directories;
use crate::config::pool::GivenPool;
use crate::files;

/// What is in a pool.
pub(crate) const FOLDERS: [&str; 2] = ["volumes", "layers"];

/// What a mark says of the pool that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PoolMark {
    name: PoolName,
    shared: bool,
}

/// A pool as it was when the agent had it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownPool {
    pub(crate) directory: PathBuf,
    pub(crate) shared: bool,
}

/// The pools that the agent of these directories has had.
///
/// # Errors
/// The record cannot be read.
pub(crate) fn known(directories: &Directories) -> anyhow::Result<BTreeMap<PoolName, KnownPool>> {
    let path = directories.pools_record();
    match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        Ok(text) => serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is damaged: remove it if each --pool is in the directory that it was in",
                path.display()
            )
        }),
    }
}

/// Whether the directory has the mark of that pool of the store of `host_id`, now.
pub(crate) fn is_ours(dir: &Path, name: &PoolName, host_id: &HostId) -> bool {
    let mark = read(dir).ok().flatten();
    mark.is_some_and(|mark| {
        mark.host_id == *host_id && mark.pool.is_some_and(|pool| pool.name == *name)
    })
}

/// Fails where a pool was filled by another store than the one at hand, or is not what it was.
///
/// # Errors
/// What does not fit together, and what an operator can do.
pub(crate) fn check(
    directories: &Directories,
    given: &[GivenPool],
    host_id: Option<&HostId>,
    revision: Revision,
) -> anyhow::Result<()> {
    let known = known(directories)?;
    for GivenPool { name, dir, shared: _ } in given {
        let shown = dir.display();
        let Some(mark) = read(dir)? else {
            if let Some(KnownPool { directory, .. }) = known.get(name) {
                bail!(
                    "the storage pool \"{name}\" was in {}, and {shown} has no {FILE}: its volumes \
                     are not there\n  help: mount its file system, or move all that was in it to \
                     {shown}; without this --pool the agent starts, and tells of its volumes. If it \
                     is lost for good, remove \"{name}\" from {}",
                    directory.display(),
                    directories.pools_record().display()
                );
            }
            if FOLDERS.iter().any(|folder| has_entries(&dir.join(folder))) {
                bail!(
                    "{shown} of --pool {name} has volumes or layers of nobody knows whom, without \
                     {FILE}; here they would be removed\n  help: give it another directory, or move \
                     them away"
                );
            }
            continue;
        };
        match &mark.pool {
            Some(pool) if Some(&mark.host_id) == host_id && pool.name == *name => {}
            Some(pool) if Some(&mark.host_id) == host_id => bail!(
                "{shown} is the storage pool \"{}\" of this agent, not \"{name}\"\n  help: give it \
                 --pool {}={shown}",
                pool.name,
                pool.name
            ),
            _ => bail!(
                "{shown} of --pool {name} was filled by another agent, {} with the state directory \
                 {}; here its volumes would be removed\n  help: give the pool another directory; a \
                 subdirectory for each agent is fine. If that agent is gone for good, remove {shown} \
                 with all that is in it",
                mark.host_id,
                mark.state_dir.display()
            ),
        }
        if revision.0 < mark.revision {
            bail!(
                "the store in {} is at revision {revision} and was at {} when it had the storage \
                 pool \"{name}\": it is an older copy; volumes that it does not know would be \
                 removed from {shown}\n  help: put the newer weft.db and weft.db-wal back, or leave \
                 out this --pool; or accept the older store: set \"revision\" in {} to {revision}",
                directories.state_dir.display(),
                mark.revision,
                dir.join(FILE).display()
            );
        }
    }
    Ok(())
}

/// Marks the pools as filled by the store of `host_id`, and remembers them.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn put(
    directories: &Directories,
    given: &[GivenPool],
    host_id: &HostId,
    revision: Revision,
) -> anyhow::Result<()> {
    let before = known(directories)?;
    let mut known = before.clone();
    for pool in given {
        write(&pool.dir, &mark_of(directories, pool, host_id, revision))?;
        crash_points::point("mark.put.pool_written");
        let of = KnownPool { directory: pool.dir.clone(), shared: pool.shared };
        known.insert(pool.name.clone(), of);
    }
    if known != before {
        remember(directories, &known)?;
    }
    crash_points::point("mark.put.pools_recorded");
    Ok(())
}

/// Forgets pools that are not given any more, are there and have nothing in them; `used` are those that
/// volumes of the store are in.
///
/// # Errors
/// A file that cannot be written or removed.
pub(crate) fn forget(
    directories: &Directories,
    given: &[GivenPool],
    host_id: &HostId,
    used: &BTreeSet<PoolName>,
) -> anyhow::Result<()> {
    let before = known(directories)?;
    let mut known = before.clone();
    known.retain(|name, pool| {
        let dir = &pool.directory;
        used.contains(name)
            || given.iter().any(|pool| pool.name == *name)
            || !is_ours(dir, name, host_id)
            || FOLDERS.iter().any(|folder| has_entries(&dir.join(folder)))
    });
    for (name, KnownPool { directory, .. }) in &before {
        if !known.contains_key(name) {
            tracing::info!(pool = %name, dir = %directory.display(), "a storage pool that is empty and not given any more is forgotten");
            clear(directory)?;
        }
    }
    if known != before {
        remember(directories, &known)?;
    }
    Ok(())
}

fn remember(
    directories: &Directories,
    known: &BTreeMap<PoolName, KnownPool>,
) -> anyhow::Result<()> {
    files::replace(&directories.pools_record(), &serde_json::to_vec(known)?, 0o600)
}

/// Writes down how far the store is, in pools that are there: what is below one that was unmounted gets
/// no mark.
///
/// # Errors
/// A file that cannot be written.
pub(super) fn renew(
    directories: &Directories,
    given: &[GivenPool],
    host_id: &HostId,
    revision: Revision,
) -> anyhow::Result<()> {
    for pool in given.iter().filter(|pool| is_ours(&pool.dir, &pool.name, host_id)) {
        write(&pool.dir, &mark_of(directories, pool, host_id, revision))?;
    }
    Ok(())
}

/// Removes all that the agent of `directories` made in its pools, and what marks them as its own; the
/// directories stay. Pools that are not there, or another's now, are left alone.
///
/// # Errors
/// A file that cannot be removed.
pub(crate) fn purge(directories: &Directories) -> anyhow::Result<()> {
    let Some(host_id) = super::host_of(directories)? else { return Ok(()) };
    for (name, KnownPool { directory, .. }) in known(directories)? {
        if !is_ours(&directory, &name, &host_id) {
            tracing::warn!(pool = %name, dir = %directory.display(), "the storage pool is not there: what is in it stays");
            continue;
        }
        clear(&directory)?;
        tracing::info!(pool = %name, dir = %directory.display(), "storage pool emptied");
    }
    Ok(())
}

/// The mark goes last: what was interrupted is known again.
fn clear(dir: &Path) -> anyhow::Result<()> {
    let gone = |result: std::io::Result<()>, path: PathBuf| match result {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    };
    for folder in FOLDERS {
        gone(fs::remove_dir_all(dir.join(folder)), dir.join(folder))?;
    }
    for file in [NEW_FILE, FILE] {
        gone(fs::remove_file(dir.join(file)), dir.join(file))?;
    }
    Ok(())
}

fn mark_of(
    directories: &Directories,
    pool: &GivenPool,
    host_id: &HostId,
    revision: Revision,
) -> Mark {
    let of = PoolMark { name: pool.name.clone(), shared: pool.shared };
    Mark { pool: Some(of), ..Mark::of(directories, host_id, revision) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store_mark::tests::{host, refused};

    fn directories(root: &Path) -> Directories {
        let made = Directories {
            state_dir: root.join("state"),
            runtime_dir: root.join("run"),
            prefix: "weft".to_owned(),
        };
        for dir in [&made.state_dir, &made.runtime_dir, &root.join("fast"), &root.join("other")] {
            fs::create_dir_all(dir).unwrap();
        }
        made
    }

    fn pool(root: &Path, name: &str, dir: &str) -> GivenPool {
        GivenPool { name: name.parse().unwrap(), dir: root.join(dir), shared: false }
    }

    #[test]
    fn a_pool_is_taken_by_the_store_that_filled_it_and_by_no_other() {
        let root = tempfile::tempdir().unwrap();
        let there = directories(root.path());
        let fast = [pool(root.path(), "fast", "fast")];
        let at = Revision;
        check(&there, &fast, None, at(0)).unwrap();
        put(&there, &fast, &host(1), at(7)).unwrap();
        check(&there, &fast, Some(&host(1)), at(7)).unwrap();
        refused(check(&there, &fast, Some(&host(2)), at(9)), &["another agent", "state"]);
        refused(check(&there, &fast, None, at(0)), &["another agent"]);
        refused(check(&there, &fast, Some(&host(1)), at(6)), &["was at 7", "older copy"]);
        let renamed = [pool(root.path(), "slow", "fast")];
        refused(check(&there, &renamed, Some(&host(1)), at(7)), &["--pool fast="]);
        // Another place with all that was in it is fine, an empty one is not.
        let moved = [pool(root.path(), "fast", "other")];
        refused(check(&there, &moved, Some(&host(1)), at(7)), &["has no store-mark.json", "mount"]);
        fs::rename(root.path().join("fast").join(FILE), root.path().join("other").join(FILE))
            .unwrap();
        check(&there, &moved, Some(&host(1)), at(7)).unwrap();
        refused(check(&there, &fast, Some(&host(1)), at(7)), &["has no store-mark.json"]);
    }

    #[test]
    fn what_is_in_a_directory_without_a_mark_is_not_swept() {
        let root = tempfile::tempdir().unwrap();
        let there = directories(root.path());
        let fast = [pool(root.path(), "fast", "fast")];
        fs::create_dir_all(root.path().join("fast/volumes/vol-1")).unwrap();
        refused(check(&there, &fast, Some(&host(1)), Revision(1)), &["nobody knows whom"]);
    }

    #[test]
    fn a_mark_is_renewed_only_where_it_is() {
        let root = tempfile::tempdir().unwrap();
        let there = directories(root.path());
        let fast = [pool(root.path(), "fast", "fast")];
        let mark = root.path().join("fast").join(FILE);
        put(&there, &fast, &host(1), Revision(7)).unwrap();
        renew(&there, &fast, &host(1), Revision(8)).unwrap();
        assert_eq!(read(&fast[0].dir).unwrap().unwrap().revision, 8);
        // As if the file system were unmounted.
        fs::remove_file(&mark).unwrap();
        renew(&there, &fast, &host(1), Revision(9)).unwrap();
        assert!(!mark.exists());
        assert!(!is_ours(&fast[0].dir, &fast[0].name, &host(1)));
    }

    #[test]
    fn pools_are_remembered_until_they_are_given_up_empty() {
        let root = tempfile::tempdir().unwrap();
        let there = directories(root.path());
        let fast = [pool(root.path(), "fast", "fast")];
        put(&there, &fast, &host(1), Revision(7)).unwrap();
        let volume = root.path().join("fast/volumes/vol-1");
        fs::create_dir_all(&volume).unwrap();
        let (none, used) = (BTreeSet::new(), BTreeSet::from([fast[0].name.clone()]));
        forget(&there, &[], &host(1), &none).unwrap();
        assert_eq!(known(&there).unwrap()[&fast[0].name].directory, fast[0].dir);
        fs::remove_dir(&volume).unwrap();
        for (given, host_id, used) in [
            (&fast[..], host(1), &none),
            (&fast[..0], host(2), &none),
            (&fast[..0], host(1), &used),
        ] {
            forget(&there, given, &host_id, used).unwrap();
            assert!(fast[0].dir.join(FILE).exists(), "{given:?} {host_id} {used:?}");
        }
        forget(&there, &[], &host(1), &none).unwrap();
        assert!(known(&there).unwrap().is_empty());
        assert_eq!(fs::read_dir(&fast[0].dir).unwrap().count(), 0, "nothing is left in it");
    }

    #[test]
    fn a_purge_empties_our_pools_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let there = directories(root.path());
        let both = [pool(root.path(), "fast", "fast"), pool(root.path(), "other", "other")];
        super::super::put(&there, &both, &host(1), Revision(7)).unwrap();
        fs::create_dir_all(root.path().join("fast/volumes/vol-1")).unwrap();
        fs::create_dir_all(root.path().join("other/volumes/vol-2")).unwrap();
        fs::write(root.path().join("fast/thesis.txt"), "mine").unwrap();
        let foreign = mark_of(&there, &both[1], &host(2), Revision(1));
        write(&both[1].dir, &foreign).unwrap();
        purge(&there).unwrap();
        let left: Vec<_> =
            fs::read_dir(&both[0].dir).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["thesis.txt"]);
        assert!(root.path().join("other/volumes/vol-2").exists());
    }
}
