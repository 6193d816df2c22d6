//! A network namespace that a lab makes and removes. Nothing reaches out of it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::paths::output_of;

/// Every namespace of a lab has this prefix, so that `scripts/test.sh` can find forgotten ones.
const PREFIX: &str = "weft-at-";

/// A named network namespace; removed with this value.
#[derive(Debug)]
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Makes one that holds nothing but a loopback link.
    ///
    /// # Errors
    /// Without root.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{count}", std::process::id());
        output_of("ip", &["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.output(&["ip", "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        format!("/run/netns/{}", self.name).into()
    }

    /// A command that runs inside. The process is replaced: its id is the program's. (Not through
    /// `ip netns exec`, which would hide /sys.)
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a program inside and gives its standard output.
    ///
    /// # Errors
    /// It fails.
    pub fn output(&self, words: &[&str]) -> Result<String> {
        let (program, args) = words.split_first().context("no program")?;
        let mut command = self.command(program);
        command.args(args);
        Ok(crate::process::run(command, crate::wait::within())?.success()?.stdout)
    }

    /// Does `work` inside, in a thread of its own: the namespace is the thread's.
    ///
    /// # Errors
    /// The namespace cannot be entered, or `work`'s own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(self.path()).context("open the namespace")?;
        let inside = move || {
            setns(&file, CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(inside).join());
        done.map_err(|_| anyhow!("a thread in the namespace {} panicked", self.name))?
    }

    /// Tries a TCP connection from inside; `Err` holds the reason (such as a timeout: a firewall
    /// that drops says nothing).
    ///
    /// # Errors
    /// The outer one: the namespace cannot be entered.
    pub fn connect(
        &self,
        address: SocketAddr,
        limit: Duration,
    ) -> Result<std::io::Result<TcpStream>> {
        self.inside(|| Ok(TcpStream::connect_timeout(&address, limit)))
    }

    /// Listens for TCP connections inside.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the address cannot be had.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        self.inside(|| TcpListener::bind(address).with_context(|| format!("listen on {address}")))
    }

    pub(crate) fn exists(&self) -> bool {
        self.path().exists()
    }

    pub(crate) fn remove(&self) -> Result<()> {
        if self.exists() {
            output_of("ip", &["netns", "delete", &self.name])?;
        }
        Ok(())
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}
