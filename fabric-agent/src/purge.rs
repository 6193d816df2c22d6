//! `fabric-agent purge`: removes all that an agent ever made, with no agent running.

use std::path::Path;

use anyhow::Context as _;
use weft_firewall::Nft;
use weft_hypervisor::{Cgroups, Guests};
use weft_network::Namespace;
use weft_store::SqliteStore;

use crate::alone;
use crate::config::Directories;
use crate::store_mark;

/// What the files of an agent are called; nothing else in its directories is touched.
const STATE_FILES: &[&str] = &[
    "weft.db",
    "weft.db-wal",
    "weft.db-shm",
    "weft.db.lock",
    "sim-host.db",
    "sim-host.db-wal",
    "sim-host.db-shm",
    "pools.json",
    "pools.new",
    store_mark::NEW_FILE,
    // Last: a purge that was interrupted finds out again whose the directory is.
    store_mark::FILE,
];
const STATE_DIRS: &[&str] =
    &["images", "instances", "volumes", "layers", crate::config::TFSTATES, crate::tls::FOLDER];
const RUNTIME_FILES: &[&str] =
    &["agent.sock", "boot-id", "boot-id.new", store_mark::NEW_FILE, store_mark::FILE, alone::LOCK];
const RUNTIME_DIRS: &[&str] = &["guests", "vpcs"];

/// Removes guests, namespaces, links, tables and files. What is already gone is no error.
pub(crate) async fn purge(directories: &Directories) -> anyhow::Result<()> {
    // Held to the end: no agent can start in between.
    let _store = take_store(directories).await?;
    let _runtime_dir = alone::in_runtime_dir(&directories.runtime_dir).await?;
    store_mark::check_ours(directories)?;
    if nix::unistd::geteuid().is_root() {
        purge_guests(directories).await?;
        purge_networks(directories).await?;
    } else if directories.guests().exists() || directories.vpcs().exists() {
        anyhow::bail!("this agent ran guests on this machine: removing them needs root");
    }
    remove_ours(&directories.runtime_dir, RUNTIME_FILES, RUNTIME_DIRS)?;
    // What has no record any more is known by its command line; its disks go after it.
    crate::strays::end(&directories.runtime_dir).context("cannot end what is left running")?;
    if nix::unistd::geteuid().is_root() {
        let cgroups = Cgroups::find(&directories.prefix);
        cgroups.sweep().and_then(|()| cgroups.remove_slice()).context("cannot remove cgroups")?;
    }
    store_mark::pools::purge(directories)?;
    remove_ours(&directories.state_dir, STATE_FILES, STATE_DIRS)?;
    tracing::info!("everything that the agent made is gone");
    Ok(())
}

/// Removes our files and folders from `dir`, and `dir` itself if nothing else is in it.
fn remove_ours(dir: &Path, files: &[&str], dirs: &[&str]) -> anyhow::Result<()> {
    for name in dirs {
        tolerate(std::fs::remove_dir_all(dir.join(name)), &dir.join(name))?;
    }
    for file in files {
        tolerate(std::fs::remove_file(dir.join(file)), &dir.join(file))?;
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        // What an agent left that was killed while it made its socket.
        if entry.file_name().to_string_lossy().starts_with(crate::serve::SOCKET_NURSERY) {
            tolerate(std::fs::remove_dir_all(entry.path()), &entry.path())?;
        }
    }
    if std::fs::remove_dir(dir).is_ok() {
        tracing::info!(dir = %dir.display(), "removed");
    }
    Ok(())
}

/// Opens the store, which is refused while an agent has it, whatever became of its socket.
async fn take_store(directories: &Directories) -> anyhow::Result<Option<SqliteStore>> {
    if !directories.database().exists() {
        return Ok(None);
    }
    match alone::with_store(&directories.database()).await {
        Ok(store) => Ok(Some(store)),
        Err(error @ weft_store::StoreError::Locked { .. }) => {
            Err(error).context("an agent is running on this state directory: end it first")
        }
        // A store that cannot be read is removed with the rest.
        Err(error) => {
            tracing::warn!(error = %crate::error_chain::ErrorChain(&error), "the store cannot be opened");
            Ok(None)
        }
    }
}

async fn purge_guests(directories: &Directories) -> anyhow::Result<()> {
    let guests = Guests::in_cgroups(directories.guests(), Cgroups::find(&directories.prefix));
    for id in guests.list()? {
        guests.purge(&id).await.with_context(|| format!("cannot end the guest of {id}"))?;
        tracing::info!(instance.id = %id, "guest ended");
    }
    Ok(())
}

async fn purge_networks(directories: &Directories) -> anyhow::Result<()> {
    let agent = Namespace::current()?;
    for link in weft_network::uplinks(&agent, &directories.prefix).await? {
        weft_network::remove_uplink(&agent, &link).await?;
        tracing::info!(link.name = %link, "link removed");
    }
    // Nothing leads to any of them now.
    weft_network::answer_for(&agent, &directories.prefix, &Default::default()).await?;
    let records = match std::fs::read_dir(directories.vpcs()) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>()?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    // Beside a record there is its holder's log.
    let is_record =
        |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|e| e == "json");
    for record in records.into_iter().filter(is_record) {
        Namespace::remove(&record.path()).await?;
        tracing::info!(record = %record.path().display(), "network namespace removed");
    }
    Nft::new(&directories.prefix, None).remove().await?;
    Ok(())
}

fn tolerate(result: std::io::Result<()>, path: &Path) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("cannot remove {}", path.display())),
    }
}
