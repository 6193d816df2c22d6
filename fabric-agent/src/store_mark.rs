//! Which store the directories belong to.
//!
//! What the store does not know, the agent removes: guests, disks, networks. So a store that was
//! lost, replaced by an older copy, or opened with another store's runtime directory would cost
//! everything. Both directories carry a mark of the store that they were filled by, and an agent
//! with another one does not start. So do storage pools, see [`pools`].

pub(crate) mod pools;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use weft_crash_points as crash_points;
use weft_model::HostId;
use weft_store::Revision;

use crate::cache::Cache;
use crate::config::Directories;
use crate::config::pool::GivenPool;
use crate::files;

/// The mark's name in both directories.
pub(crate) const FILE: &str = "store-mark.json";

/// What a crash leaves that comes while it is written.
pub(crate) const NEW_FILE: &str = "store-mark.new";

/// How often the revision is written down, where it has changed: what a loss of less than this
/// costs is not noticed.
const INTERVAL: Duration = Duration::from_secs(5);

/// What a directory says of its store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    host_id: HostId,
    /// Where the store is.
    state_dir: PathBuf,
    /// How far the store has been, as of the last look.
    revision: u64,
    /// Which storage pool it is, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<pools::PoolMark>,
}

impl Mark {
    fn of(directories: &Directories, host_id: &HostId, revision: Revision) -> Self {
        Self {
            host_id: host_id.clone(),
            state_dir: directories.state_dir.clone(),
            revision: revision.0,
            pool: None,
        }
    }
}

/// Fails where `directories` were filled by another store than the one at hand, which is of
/// `host_id`, if it is of any, and at `revision`.
///
/// # Errors
/// What does not fit together, and what an operator can do.
pub(crate) fn check(
    directories: &Directories,
    host_id: Option<&HostId>,
    revision: Revision,
) -> anyhow::Result<()> {
    let Directories { state_dir, runtime_dir, .. } = directories;
    let lost = || {
        format!(
            "put the weft.db and weft.db-wal back that were in {}; or give up all that is there: \
             fabric-agent purge --state-dir {} --runtime-dir {}",
            state_dir.display(),
            state_dir.display(),
            runtime_dir.display()
        )
    };
    let marks = [read(state_dir)?, read(runtime_dir)?];
    let [of_state, of_runtime] = &marks;
    match of_state {
        Some(mark) if Some(&mark.host_id) != host_id => bail!(
            "the store in {} is {}, and not the one that made the disks and images there; with it \
             they would be removed\n  help: {}",
            state_dir.display(),
            host_id.map_or_else(|| "empty".to_owned(), |id| format!("of {id}")),
            lost()
        ),
        None if host_id.is_none() && has_disks(directories) => bail!(
            "the store in {} is empty, but there are disks of instances or volumes, or Terraform \
             states; with it they would be removed\n  help: {}",
            state_dir.display(),
            lost()
        ),
        _ => {}
    }
    if let Some(mark) = of_runtime
        && Some(&mark.host_id) != host_id
        && guests_or_networks(directories)
    {
        bail!(
            "the guests and networks recorded in {} are not of the store in {} but of the one in \
             {}; with this one they would be ended\n  help: use --state-dir {}, or another \
             --runtime-dir",
            runtime_dir.display(),
            state_dir.display(),
            mark.state_dir.display(),
            mark.state_dir.display()
        );
    }
    // A copy of the whole state directory has the mark of its time: the other one is newer.
    let ours = marks.iter().flatten().filter(|mark| Some(&mark.host_id) == host_id);
    let newest = ours.map(|mark| mark.revision).max();
    if let Some(newest) = newest.filter(|newest| revision.0 < *newest) {
        bail!(
            "the store in {} is at revision {revision} and was at {newest} before: it is an older \
             copy, or has lost its weft.db-wal; instances that it does not know would be removed, \
             with their disks\n  help: {}; or accept the older one: stop all instances, then rm {} \
             {}; the versions of Terraform states that it does not know are put aside then",
            state_dir.display(),
            lost(),
            state_dir.join(FILE).display(),
            runtime_dir.join(FILE).display()
        );
    }
    Ok(())
}

/// Marks both directories and the pools as filled by the store of `host_id`.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn put(
    directories: &Directories,
    pools: &[GivenPool],
    host_id: &HostId,
    revision: Revision,
) -> anyhow::Result<()> {
    put_own(directories, host_id, revision)?;
    pools::put(directories, pools, host_id, revision)
}

fn put_own(directories: &Directories, host_id: &HostId, revision: Revision) -> anyhow::Result<()> {
    let mark = Mark::of(directories, host_id, revision);
    crash_points::point("mark.put.before");
    for dir in [&directories.state_dir, &directories.runtime_dir] {
        write(dir, &mark)?;
        crash_points::point("mark.put.written");
    }
    Ok(())
}

/// The host whose store filled the state directory, where that has a mark.
///
/// # Errors
/// The mark cannot be read.
pub(crate) fn host_of(directories: &Directories) -> anyhow::Result<Option<HostId>> {
    Ok(read(&directories.state_dir)?.map(|mark| mark.host_id))
}

/// Writes down how far the store is, now and then and at the end.
pub(crate) async fn follow(
    directories: &Directories,
    pools: &[GivenPool],
    host_id: &HostId,
    cache: &Cache,
    shutdown: CancellationToken,
) {
    let mut written = Revision::ABSENT;
    loop {
        let ending = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(INTERVAL) => false,
        };
        let revision = cache.revision();
        if revision != written {
            let (directories, host_id) = (directories.clone(), host_id.clone());
            let pools = pools.to_vec();
            let put = tokio::task::spawn_blocking(move || {
                put_own(&directories, &host_id, revision)?;
                pools::renew(&directories, &pools, &host_id, revision)
            });
            match put.await.context("write down how far the store is").flatten() {
                Ok(()) => written = revision,
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "how far the store is could not be written down"
                ),
            }
        }
        if ending {
            return;
        }
    }
}

/// What `purge` may take for an agent's: fails where `directories` do not belong together, or hold
/// what no agent made.
///
/// # Errors
/// What does not fit together.
pub(crate) fn check_ours(directories: &Directories) -> anyhow::Result<()> {
    let Directories { state_dir, runtime_dir, .. } = directories;
    let ours = read(state_dir)?;
    if let Some(mark) = read(runtime_dir)? {
        let same = ours.as_ref().is_some_and(|ours| ours.host_id == mark.host_id);
        if !same && mark.state_dir != *state_dir {
            bail!(
                "the runtime directory {} is of the agent with --state-dir {}, not of the one with \
                 --state-dir {}: name the two that belong together",
                runtime_dir.display(),
                mark.state_dir.display(),
                state_dir.display()
            );
        }
    }
    let certificates = crate::tls::Files::of(state_dir).agent_cert();
    if ours.is_none() && !directories.database().exists() && !certificates.exists() {
        let like_ours = [
            directories.blobs(),
            directories.instances(),
            directories.volumes(),
            directories.tfstates(),
        ];
        if let Some(dir) = like_ours.iter().find(|dir| has_entries(dir)) {
            bail!(
                "{} is not known to be an agent's: {} has neither {FILE} nor weft.db; look at \
                 --state-dir, or remove it yourself",
                dir.display(),
                state_dir.display()
            );
        }
    }
    Ok(())
}

fn read(dir: &Path) -> anyhow::Result<Option<Mark>> {
    let path = dir.join(FILE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let mark = serde_json::from_slice(&text).with_context(|| {
        format!("{} is damaged: remove it if the store in that directory is right", path.display())
    })?;
    Ok(Some(mark))
}

fn write(dir: &Path, mark: &Mark) -> anyhow::Result<()> {
    files::replace(&dir.join(FILE), &serde_json::to_vec(mark)?, 0o600)
}

fn guests_or_networks(directories: &Directories) -> bool {
    has_entries(&directories.guests()) || has_entries(&directories.vpcs())
}

fn has_disks(directories: &Directories) -> bool {
    has_entries(&directories.instances())
        || has_entries(&directories.volumes())
        || crate::tfstate::are_in(&directories.tfstates())
}

fn has_entries(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(root: &Path) -> Directories {
        let made = Directories {
            state_dir: root.join("state"),
            runtime_dir: root.join("run"),
            prefix: "weft".to_owned(),
        };
        for dir in [&made.state_dir, &made.runtime_dir, &made.instances(), &made.guests()] {
            fs::create_dir_all(dir).unwrap();
        }
        made
    }

    pub(super) fn host(n: u8) -> HostId {
        HostId::from_random([n; 9])
    }

    #[track_caller]
    pub(super) fn refused(result: anyhow::Result<()>, words: &[&str]) {
        let text = format!("{:#}", result.unwrap_err());
        for word in words {
            assert!(text.contains(word), "\"{word}\" is missing in: {text}");
        }
    }

    #[test]
    fn a_store_that_did_not_fill_the_directories_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let there = directories(root.path());
        let at = Revision;
        check(&there, None, at(0)).unwrap();
        put(&there, &[], &host(1), at(7)).unwrap();
        check(&there, Some(&host(1)), at(7)).unwrap();
        check(&there, Some(&host(1)), at(8)).unwrap();
        refused(check(&there, None, at(0)), &["is empty", "weft.db-wal back", "purge"]);
        refused(check(&there, Some(&host(2)), at(9)), &["not the one that made the disks"]);
        refused(check(&there, Some(&host(1)), at(6)), &["revision 6", "was at 7", "older copy"]);

        // The whole state directory is an older copy, its mark too.
        let newer = Mark { revision: 9, ..read(&there.state_dir).unwrap().unwrap() };
        write(&there.runtime_dir, &newer).unwrap();
        refused(check(&there, Some(&host(1)), at(8)), &["revision 8", "was at 9", "older copy"]);
        fs::remove_file(there.runtime_dir.join(FILE)).unwrap();

        // The mark went with the store, the disks did not.
        fs::remove_file(there.state_dir.join(FILE)).unwrap();
        check(&there, Some(&host(1)), at(6)).unwrap();
        fs::create_dir(there.instances().join("i-1")).unwrap();
        refused(check(&there, None, at(0)), &["is empty, but there are disks"]);

        // Nor did Terraform's states; a folder for what comes is none.
        fs::remove_dir_all(there.instances()).unwrap();
        fs::create_dir_all(there.tfstates().join(".incoming")).unwrap();
        check(&there, None, at(0)).unwrap();
        fs::create_dir(there.tfstates().join("web")).unwrap();
        refused(check(&there, None, at(0)), &["or Terraform states", "purge"]);
    }

    #[test]
    fn another_stores_guests_are_not_taken_for_leftovers() {
        let root = tempfile::tempdir().unwrap();
        let there = directories(root.path());
        put(&there, &[], &host(1), Revision(7)).unwrap();
        let wrong = Directories { state_dir: root.path().join("wrong"), ..there.clone() };
        check(&wrong, None, Revision(0)).unwrap();
        refused(check_ours(&wrong), &["belong together", "state"]);
        fs::create_dir(there.guests().join("i-1")).unwrap();
        refused(check(&wrong, None, Revision(0)), &["with this one they would be ended"]);
        check(&there, Some(&host(1)), Revision(7)).unwrap();
        // The state directory is gone altogether: what is left can still be purged.
        fs::remove_dir_all(&there.state_dir).unwrap();
        check_ours(&there).unwrap();
    }

    #[test]
    fn a_purge_takes_nothing_that_no_agent_made() {
        assert_eq!(files::temporary(Path::new(FILE)), Path::new(NEW_FILE), "which purge takes");
        let root = tempfile::tempdir().unwrap();
        let there = directories(root.path());
        check_ours(&there).unwrap();
        fs::write(there.instances().join("thesis.txt"), "mine").unwrap();
        refused(check_ours(&there), &["instances is not known to be an agent's"]);
        put(&there, &[], &host(1), Revision(7)).unwrap();
        check_ours(&there).unwrap();
    }
}
