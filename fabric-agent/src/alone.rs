//! That no other agent has the same store, the same runtime directory, or the same names in the kernel.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use weft_store::{SqliteOptions, SqliteStore, StoreError};

/// The lock's name in the runtime directory.
pub(crate) const LOCK: &str = "agent.lock";

/// A child of an agent that was killed has its files until its exec, and flock(2) locks belong to the open
/// file, which fork(2) copies: so long it is waited for.
const WITHIN: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);

/// The store, which has a lock of its own.
///
/// # Errors
/// [`StoreError::Locked`]: another agent has it. What else [`SqliteStore::open`] says.
pub(crate) async fn with_store(path: &Path) -> Result<SqliteStore, StoreError> {
    let open = || SqliteStore::open(path, SqliteOptions::default());
    patiently(open, |error| matches!(error, StoreError::Locked { .. })).await
}

/// Held as long as it is open. [`None`] where there is no such directory.
///
/// # Errors
/// Another agent holds it.
pub(crate) async fn in_runtime_dir(dir: &Path) -> anyhow::Result<Option<File>> {
    let path = dir.join(LOCK);
    let file = match File::options().create(true).append(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot open {}", path.display()))?,
    };
    let is_held = |error: &TryLockError| matches!(error, TryLockError::WouldBlock);
    match patiently(|| file.try_lock(), is_held).await {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "an agent is running with the runtime directory {}: end it first, or use another \
             --runtime-dir",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Two agents that give their links one name would take them from each other: only one may use
/// `prefix` in a network namespace. Abstract sockets are the namespace's (unix(7),
/// network_namespaces(7)).
///
/// # Errors
/// Another agent uses it.
pub(crate) async fn in_network_namespace(prefix: &str) -> anyhow::Result<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("weft-agent-{prefix}"))?;
    let is_used = |error: &io::Error| error.kind() == ErrorKind::AddrInUse;
    match patiently(|| UnixListener::bind_addr(&address), is_used).await {
        Err(error) if is_used(&error) => anyhow::bail!(
            "another agent runs in this network namespace with --prefix {prefix}: end it first, \
             or use another --prefix"
        ),
        bound => bound.context("cannot see whether another agent runs here"),
    }
}

/// What comes of `attempt`, which is made again for a while where another agent has what it is for.
async fn patiently<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_taken: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut left = WITHIN;
    loop {
        match attempt() {
            Err(error) if is_taken(&error) && !left.is_zero() => {
                tokio::time::sleep(POLL).await;
                left = left.saturating_sub(POLL);
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_that_outlives_its_agent_for_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        drop(with_store(&path).await.unwrap());
        // As a child has it that the agent was killed over, before its exec.
        let copy = File::open(dir.path().join("store.db.lock")).unwrap();
        copy.lock().unwrap();
        let child = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(copy);
        });
        with_store(&path).await.unwrap();
        child.join().unwrap();
    }

    #[tokio::test]
    async fn a_lock_file_that_its_last_holder_removes_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        drop(with_store(&path).await.unwrap());
        let lock = dir.path().join("store.db.lock");
        let held = File::open(&lock).unwrap();
        held.lock().unwrap();
        let remover = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            std::fs::remove_file(lock).unwrap();
            drop(held);
        });
        let first = with_store(&path).await.unwrap();
        remover.join().unwrap();
        assert!(matches!(with_store(&path).await, Err(StoreError::Locked { .. })));
        drop(first);
    }

    #[tokio::test]
    async fn one_agent_has_a_runtime_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert!(in_runtime_dir(&dir.path().join("none")).await.unwrap().is_none());
        let held = in_runtime_dir(dir.path()).await.unwrap();
        let refused = in_runtime_dir(dir.path()).await.unwrap_err().to_string();
        assert!(refused.contains("end it first, or use another --runtime-dir"), "{refused}");
        drop(held);
        in_runtime_dir(dir.path()).await.unwrap();
    }

    #[tokio::test]
    async fn one_agent_has_a_prefix_in_a_network_namespace() {
        let prefix = format!("t{}", std::process::id());
        let held = in_network_namespace(&prefix).await.unwrap();
        in_network_namespace(&format!("{prefix}-other")).await.unwrap();
        let refused = in_network_namespace(&prefix).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("--prefix {prefix}: end it first")), "{refused}");
        drop(held);
        in_network_namespace(&prefix).await.unwrap();
    }
}
