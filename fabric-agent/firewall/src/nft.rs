//! Runs `nft` inside a network namespace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command as Process;
use weft_model::{Counted, Counts, Firewall};

use crate::json::{Command, Family};
use crate::observe::ObservedFirewall;

/// How long one transaction may take; the largest tried (70,000 members) took 0.8 s.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why the packet filter could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The namespace's file could not be opened: it is gone.
    #[error("open network namespace {}", path.display())]
    Namespace {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `nft` is not there or could not be spoken to.
    #[error("run nft (is the package nftables installed?)")]
    Run {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `nft` did not come back in time.
    #[error("nft did not finish within {} s", DEADLINE.as_secs())]
    TimedOut,
    /// The kernel or `nft` refused; nothing was changed.
    #[error("nft refused to {action}: {stderr}")]
    Refused {
        /// What was tried, with the table's name.
        action: String,
        /// What `nft` said.
        stderr: String,
    },
    /// The listing or the commands are not the JSON that they should be.
    #[error("exchange JSON with nft about table {table}")]
    Json {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl FirewallError {
    /// Whether the same call may succeed later with nothing else changed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Run { .. } | Self::Refused { .. })
    }
}

/// `nft` for one table of one namespace.
#[derive(Clone, Debug)]
pub struct Nft {
    table: String,
    namespace: Option<PathBuf>,
}

#[derive(Serialize)]
struct Transaction<'a> {
    nftables: &'a [Command],
}

impl Nft {
    /// The table `inet TABLE` of the namespace behind the file `namespace`, such as
    /// `/proc/PID/ns/net`; `None` is the namespace of the calling thread.
    pub fn new(table: impl Into<String>, namespace: Option<PathBuf>) -> Self {
        Self { table: table.into(), namespace }
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Puts `firewall` in place of whatever the table held.
    ///
    /// # Errors
    /// See [`FirewallError`]; on every error the table is as it was.
    pub async fn replace(&self, firewall: &Firewall) -> Result<(), FirewallError> {
        self.apply(&crate::full(&self.table, firewall)).await
    }

    /// Brings the table from `old`, which was applied before, to `new`.
    ///
    /// # Errors
    /// See [`FirewallError`]; on every error the table is as it was.
    pub async fn change(&self, old: &Firewall, new: &Firewall) -> Result<(), FirewallError> {
        self.apply(&crate::changes(&self.table, old, new)).await
    }

    /// Removes the table, if it exists.
    ///
    /// # Errors
    /// See [`FirewallError`].
    pub async fn remove(&self) -> Result<(), FirewallError> {
        self.apply(&crate::remove(&self.table)).await
    }

    /// Carries out `commands` as one transaction; no commands, no process.
    ///
    /// # Errors
    /// See [`FirewallError`]; on every error nothing was changed.
    pub async fn apply(&self, commands: &[Command]) -> Result<(), FirewallError> {
        if commands.is_empty() {
            return Ok(());
        }
        let json = serde_json::to_vec(&Transaction { nftables: commands })
            .map_err(|source| self.bad_json(source))?;
        let output = self.run(&["-j", "-f", "-"], json).await?;
        self.succeeded("apply", output).map(|_| ())
    }

    /// What the table holds; `None` if there is none. Takes long when there is much: for the start
    /// and for a resync. With `with_bridge` the table beside it is looked for in the bridge family,
    /// which not every kernel has, else in the arp family.
    ///
    /// # Errors
    /// See [`FirewallError`].
    pub async fn observe(
        &self,
        with_bridge: bool,
    ) -> Result<Option<ObservedFirewall>, FirewallError> {
        let Some(seen) = self.list(Family::Inet).await? else { return Ok(None) };
        let family = if with_bridge { Family::Bridge } else { Family::Arp };
        Ok(Some(seen.with_frames(family, self.list(family).await?)))
    }

    /// What the table's named counters have counted; nothing where there is no table.
    ///
    /// # Errors
    /// See [`FirewallError`].
    pub async fn counters(&self) -> Result<BTreeMap<Counted, Counts>, FirewallError> {
        let arguments = ["-j", "list", "counters", "table", Family::Inet.as_str(), &self.table];
        let output = self.run(&arguments, Vec::new()).await?;
        if is_absent(&output) {
            return Ok(BTreeMap::new());
        }
        let listing = self.succeeded("count what passed", output)?;
        crate::counters::parse(&listing).map_err(|source| self.bad_json(source))
    }

    async fn list(&self, family: Family) -> Result<Option<ObservedFirewall>, FirewallError> {
        let arguments = ["-j", "-n", "-y", "list", "table", family.as_str(), &self.table];
        let output = self.run(&arguments, Vec::new()).await?;
        if is_absent(&output) {
            return Ok(None);
        }
        let listing = self.succeeded("list", output)?;
        ObservedFirewall::parse(&listing).map(Some).map_err(|source| self.bad_json(source))
    }

    fn bad_json(&self, source: serde_json::Error) -> FirewallError {
        FirewallError::Json { table: self.table.clone(), source }
    }

    fn succeeded(&self, verb: &str, output: Output) -> Result<Vec<u8>, FirewallError> {
        if output.status.success() {
            return Ok(output.stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        // The first lines say what is wrong; the rest repeats it per command.
        let stderr = stderr.trim().lines().take(8).collect::<Vec<_>>().join("; ");
        Err(FirewallError::Refused { action: format!("{verb} table {}", self.table), stderr })
    }

    async fn run(&self, arguments: &[&str], input: Vec<u8>) -> Result<Output, FirewallError> {
        let failed = |source| FirewallError::Run { source };
        let mut process = Process::new("nft");
        process
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(path) = &self.namespace {
            let namespace = File::open(path)
                .map_err(|source| FirewallError::Namespace { path: path.clone(), source })?;
            enter(&mut process, namespace);
        }
        let mut child = process.spawn().map_err(failed)?;
        let mut stdin = child.stdin.take();
        let exchange = async {
            let write = async {
                if let Some(mut pipe) = stdin.take() {
                    // A process that refuses early closes the pipe; its exit tells why.
                    match pipe.write_all(&input).await {
                        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
                        _ => Ok(()),
                    }
                } else {
                    Ok(())
                }
            };
            let (written, output) = tokio::join!(write, child.wait_with_output());
            written.and(output)
        };
        let output = tokio::time::timeout(DEADLINE, exchange).await;
        output.map_err(|_| FirewallError::TimedOut)?.map_err(failed)
    }
}

/// Whether `nft` failed because the table does not exist.
fn is_absent(output: &Output) -> bool {
    let absent = "No such file or directory";
    !output.status.success() && String::from_utf8_lossy(&output.stderr).contains(absent)
}

#[expect(unsafe_code, reason = "only a child between fork and exec can enter a namespace alone")]
fn enter(process: &mut Process, namespace: File) {
    // SAFETY: the closure makes one system call, setns(2), which is async-signal-safe; it
    // allocates nothing and takes no lock. The file lives as long as the closure.
    unsafe {
        process.pre_exec(move || {
            nix::sched::setns(namespace.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
        });
    }
}
