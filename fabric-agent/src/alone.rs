//! That no other agent has the same runtime directory, or the same names in the kernel. The store
//! has a lock of its own.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

/// The lock's name in the runtime directory.
pub(crate) const LOCK: &str = "agent.lock";

/// A child of an agent that was killed has its files until its exec: so long it is waited for.
const WITHIN: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);

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
    let taken = patiently(|| match file.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    });
    let taken = taken.await.with_context(|| format!("cannot lock {}", path.display()))?;
    anyhow::ensure!(
        taken.is_some(),
        "an agent is running with the runtime directory {}: end it first, or use another \
         --runtime-dir",
        dir.display()
    );
    Ok(Some(file))
}

/// Two agents that give their links one name would take them from each other: only one may use
/// `prefix` in a network namespace. Abstract sockets are the namespace's (unix(7),
/// network_namespaces(7)).
///
/// # Errors
/// Another agent uses it.
pub(crate) async fn in_network_namespace(prefix: &str) -> anyhow::Result<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("weft-agent-{prefix}"))?;
    let bound = patiently(|| match UnixListener::bind_addr(&address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
        other => other.map(Some),
    });
    let bound = bound.await.context("cannot see whether another agent runs here")?;
    bound.with_context(|| {
        format!(
            "another agent runs in this network namespace with --prefix {prefix}: end it first, \
             or use another --prefix"
        )
    })
}

async fn patiently<T>(
    mut attempt: impl FnMut() -> std::io::Result<Option<T>>,
) -> std::io::Result<Option<T>> {
    let mut left = WITHIN;
    loop {
        match attempt()? {
            None if !left.is_zero() => {
                tokio::time::sleep(POLL).await;
                left = left.saturating_sub(POLL);
            }
            outcome => return Ok(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
