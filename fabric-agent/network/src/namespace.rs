//! A network namespace: found, entered, spoken to.
//!
//! No thread that outlives a call ever changes its namespace: whatever must happen inside runs on
//! a thread of its own that ends right after.

mod adopt;
mod process;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpStream as StdTcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rtnetlink::Handle;
use tokio::net::{TcpSocket, TcpStream};

use crate::NetworkError;
use crate::holder::HolderRecord;

/// How to start the process that holds a namespace: `PROGRAM ARGS`, which must end in
/// [`holder::run`](crate::holder::run) with the record that `ensure` is called with. To join a
/// namespace that exists, `--join PATH` is appended: [`HolderArgs::join`](crate::HolderArgs::join).
#[derive(Clone, Debug)]
pub struct HolderCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// A handle to a network namespace; clones share it. The namespace lives at least as long.
#[derive(Clone, Debug)]
pub struct Namespace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    holder: Option<(HolderRecord, PathBuf)>,
    netlink: OnceLock<Handle>,
}

impl Namespace {
    /// The namespace that the calling thread is in: for the agent, "its own".
    ///
    /// # Errors
    /// Without `/proc`.
    pub fn current() -> Result<Self, NetworkError> {
        let file = File::open("/proc/thread-self/ns/net").map_err(|source| {
            NetworkError::Enter { namespace: "/proc/thread-self/ns/net".into(), source }
        })?;
        Ok(Self::new(file, None))
    }

    /// The held namespace that `record` tells of, if its holder is alive. A record of a holder
    /// that is gone counts as none.
    ///
    /// # Errors
    /// The record exists and cannot be read.
    pub fn find(record: &Path) -> Result<Option<Self>, NetworkError> {
        let Some(holder) = HolderRecord::read(record)? else { return Ok(None) };
        let opened = File::open(format!("/proc/{}/ns/net", holder.pid));
        // Checked after opening: what was opened belonged to the process that was meant.
        Ok(opened
            .ok()
            .filter(|_| holder.is_alive())
            .map(|file| Self::new(file, Some((holder, record.to_owned())))))
    }

    /// The held namespace of `record`; starts a holder if there is none.
    ///
    /// # Errors
    /// The holder cannot be started, ends, or does not write its record in time.
    pub async fn ensure(record: &Path, command: &HolderCommand) -> Result<Self, NetworkError> {
        Self::ensure_adopting(record, command, &[]).await
    }

    /// As [`ensure`](Self::ensure). If the holder was killed and one of `candidates`, files such as
    /// `/proc/PID/fd/N`, still is the namespace that it held, a new holder takes that one over: all
    /// in it, with the guests on its taps, stays as it is. Candidates that are gone are skipped.
    ///
    /// # Errors
    /// As `ensure`. If the namespace cannot be taken over none is made: the record stays, and a
    /// later call tries again.
    pub async fn ensure_adopting(
        record: &Path,
        command: &HolderCommand,
        candidates: &[PathBuf],
    ) -> Result<Self, NetworkError> {
        if let Some(found) = Self::find(record)? {
            return Ok(found);
        }
        let adopted = adopt::find(record, candidates)?;
        let mut command = command.clone();
        if let Some(adopted) = &adopted {
            tracing::warn!(
                record = %record.display(),
                "the holder of a network namespace was killed; another one takes it over"
            );
            command.args.extend(["--join".into(), adopted.path_for_others().into()]);
        }
        let found = Self::start(record, &command).await?;
        let Some(adopted) = adopted else { return Ok(found) };
        match found.holder() {
            Some(holder) if holder.cookie != adopted.lost.cookie => {
                // First what must not get lost.
                adopted.lost.write(record)?;
                process::end(holder).await?;
                Err(NetworkError::NotJoined { record: record.to_owned() })
            }
            _ => Ok(found),
        }
    }

    async fn start(record: &Path, command: &HolderCommand) -> Result<Self, NetworkError> {
        let started = process::spawn_detached(command, record)?;
        weft_crash_points::point("netns.make.holder_started");
        let deadline = tokio::time::Instant::now() + process::HOLDER_DEADLINE;
        loop {
            // Asked first: what lived to write its record has written it when it ends.
            let ended = started.has_ended()?;
            if let Some(found) = Self::find(record)? {
                return Ok(found);
            }
            let record = record.to_owned();
            if ended {
                let last_words = started.last_words();
                return Err(NetworkError::HolderEnded { record, last_words });
            }
            if tokio::time::Instant::now() >= deadline {
                let last_words = started.last_words();
                return Err(NetworkError::HolderSilent { record, last_words });
            }
            tokio::time::sleep(process::HOLDER_POLL).await;
        }
    }

    /// Ends the holder and forgets its record. The kernel takes the namespace away, with all
    /// links in it, once the last handle and the last process inside are gone. Absence is success.
    ///
    /// # Errors
    /// The holder is alive and cannot be ended, or the record cannot be removed.
    pub async fn remove(record: &Path) -> Result<(), NetworkError> {
        if let Some(holder) = HolderRecord::read(record)? {
            process::end(&holder).await?;
        }
        weft_crash_points::point("netns.remove.holder_ended");
        HolderRecord::forget(&process::log_of(record))?;
        HolderRecord::forget(record)
    }

    fn new(file: File, holder: Option<(HolderRecord, PathBuf)>) -> Self {
        Self { inner: Arc::new(Inner { file, holder, netlink: OnceLock::new() }) }
    }

    /// A path that opens the namespace, valid in this process while the handle lives. Unlike
    /// `/proc/PID/ns/net` it cannot come to mean another process's namespace.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.inner.file.as_raw_fd()).into()
    }

    /// The process that holds the namespace, if it is a held one: `/proc/PID/ns/net` is for
    /// people and other programs.
    pub fn holder(&self) -> Option<&HolderRecord> {
        self.inner.holder.as_ref().map(|(record, _)| record)
    }

    pub(crate) fn file(&self) -> &File {
        &self.inner.file
    }

    pub(crate) fn name(&self) -> String {
        match &self.inner.holder {
            Some((holder, record)) => format!("of process {} ({})", holder.pid, record.display()),
            None => "of the agent".to_owned(),
        }
    }

    fn enter_failed(&self, source: io::Error) -> NetworkError {
        NetworkError::Enter { namespace: self.name(), source }
    }

    /// Runs `work` inside, on a thread of its own, and waits for it. Keep it short.
    ///
    /// # Errors
    /// The thread cannot be made or cannot enter. A panic of `work` goes on in the caller.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetworkError> {
        let inside = || -> io::Result<T> {
            setns(self.inner.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("in-netns".into());
            let running = thread.spawn_scoped(scope, inside)?;
            running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .map_err(|source| self.enter_failed(source))
    }

    /// The rtnetlink connection into the namespace, made at the first call and kept.
    ///
    /// # Errors
    /// The socket cannot be made. Must be called inside a tokio runtime.
    pub fn netlink(&self) -> Result<Handle, NetworkError> {
        if let Some(handle) = self.inner.netlink.get() {
            return Ok(handle.clone());
        }
        let runtime = tokio::runtime::Handle::current();
        let connect = || {
            let _guard = runtime.enter();
            rtnetlink::new_connection()
        };
        let made = self.enter(connect)?.map_err(|source| self.enter_failed(source))?;
        let (connection, handle, _unsolicited) = made;
        tokio::spawn(connection);
        // Two first calls at once: one of the connections ends when its handle is dropped.
        Ok(self.inner.netlink.get_or_init(|| handle).clone())
    }

    /// A TCP connection opened from inside, within `deadline`.
    ///
    /// # Errors
    /// As connect(2); [`io::ErrorKind::TimedOut`] after `deadline`.
    pub async fn connect(
        &self,
        address: SocketAddrV4,
        deadline: Duration,
    ) -> Result<TcpStream, NetworkError> {
        let address = SocketAddr::V4(address);
        let failed = |source| NetworkError::Connect { address, source };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let make = || socket(AddressFamily::Inet, SockType::Stream, flags, None);
        let made: OwnedFd = self.enter(make)?.map_err(|errno| failed(errno.into()))?;
        let socket = TcpSocket::from_std_stream(StdTcpStream::from(made));
        match tokio::time::timeout(deadline, socket.connect(address)).await {
            Ok(connected) => connected.map_err(failed),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }
}
