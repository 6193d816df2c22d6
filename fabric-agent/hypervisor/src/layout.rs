//! A guest's directory: its files and sockets.
//!
//! ```text
//! ROOT/i-0123456789abcdef0/   mode 0700; QEMU's user never opens anything in it
//!   lock                      locked by the holder for its whole life
//!   spec.json                 what was asked for; written by the agent before the holder starts
//!   holder.json               the holder's identity, its first act
//!   holder.log                the holder's standard error
//!   guest.json                QEMU's identity; there exactly when a QEMU was started
//!   events.json               moments that only the holder sees
//!   exit.json                 how QEMU ended; there exactly when the holder saw it end
//!   console.log, console.log.1  the console's output, newest first, 512 KiB each at most
//!   console.sock, qmp.sock    the console and the machine protocol
//!   agent.sock                the agent that the guest may run
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::lock;

pub(crate) const LOCK: &str = "lock";
pub(crate) const SPEC: &str = "spec.json";
pub(crate) const HOLDER: &str = "holder.json";
pub(crate) const HOLDER_LOG: &str = "holder.log";
pub(crate) const GUEST: &str = "guest.json";
pub(crate) const EVENTS: &str = "events.json";
pub(crate) const EXIT: &str = "exit.json";
pub(crate) const CONSOLE_LOG: &str = "console.log";
pub(crate) const OLD_CONSOLE_LOG: &str = "console.log.1";
pub(crate) const CONSOLE_SOCKET: &str = "console.sock";
pub(crate) const QMP_SOCKET: &str = "qmp.sock";
pub(crate) const AGENT_SOCKET: &str = "agent.sock";

/// What belongs to one start of a guest and is removed before the next.
const OF_ONE_START: [&str; 8] =
    [HOLDER, GUEST, EVENTS, EXIT, CONSOLE_SOCKET, QMP_SOCKET, AGENT_SOCKET, HOLDER_LOG];

/// The directory of one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuestDir(PathBuf);

impl GuestDir {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// Opens the lock file without locking it.
    pub(crate) fn open_lock(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.file(LOCK))
    }

    /// Whether a holder, or an agent that is about to start one, lives. Only asks: at no moment
    /// does it stand in the way of who takes the lock.
    pub(crate) fn is_locked(&self) -> io::Result<bool> {
        let file = match File::open(self.file(LOCK)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        lock::is_taken(&file)
    }

    /// Removes what an earlier start left; the console's log stays.
    pub(crate) fn clear_start(&self) -> io::Result<()> {
        OF_ONE_START.iter().try_for_each(|name| self.remove(name))
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads a record; none if there is no such file.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.file(name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a record so that a reader sees all of it or nothing, also after a power failure.
    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let temporary = self.file(&format!(".{name}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        file.sync_all()?;
        fs::rename(&temporary, self.file(name))?;
        File::open(&self.0)?.sync_all()
    }

    /// The last `max_bytes` of a file; empty if there is no such file.
    pub(crate) fn tail(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        let mut file = match File::open(self.file(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(max_bytes)))?;
        let mut bytes = Vec::new();
        file.take(max_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Listens on a socket of this directory.
    pub(crate) fn listen(&self, name: &str) -> io::Result<UnixListener> {
        self.remove(name)?;
        self.with_short_path(name, UnixListener::bind)
    }

    /// Connects to a socket of this directory.
    pub(crate) fn connect(&self, name: &str) -> io::Result<UnixStream> {
        self.with_short_path(name, UnixStream::connect)
    }

    /// The same, without waiting for whoever listens: where too many wait for it already, that is an
    /// error.
    pub(crate) async fn connect_now(&self, name: &str) -> io::Result<tokio::net::UnixStream> {
        let directory = File::open(&self.0)?;
        let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
        tokio::net::UnixStream::connect(path).await
    }

    /// A socket's path has at most 107 bytes (unix(7)), a directory's may have more: so the
    /// directory is named by a descriptor.
    fn with_short_path<T>(
        &self,
        name: &str,
        act: impl FnOnce(PathBuf) -> io::Result<T>,
    ) -> io::Result<T> {
        let directory = File::open(&self.0)?;
        act(PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_work_below_very_long_paths() {
        let root = tempfile::tempdir().unwrap();
        let dir = GuestDir::new(root.path().join("x".repeat(120)));
        dir.create().unwrap();
        let listener = dir.listen(QMP_SOCKET).unwrap();
        dir.connect(QMP_SOCKET).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn a_lock_is_seen_while_its_file_is_open() {
        let root = tempfile::tempdir().unwrap();
        let dir = GuestDir::new(root.path());
        assert!(!dir.is_locked().unwrap());
        let lock = dir.open_lock().unwrap();
        assert!(lock::take(&lock).unwrap());
        assert!(dir.is_locked().unwrap());
        drop(lock);
        assert!(!dir.is_locked().unwrap());
    }

    #[test]
    fn looking_at_a_lock_never_keeps_anybody_from_taking_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = GuestDir::new(root.path());
        dir.open_lock().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let look = || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    dir.is_locked().unwrap();
                }
            };
            scope.spawn(look);
            scope.spawn(look);
            let taken = (0..20_000).all(|_| lock::take(&dir.open_lock().unwrap()).unwrap());
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(taken);
        });
    }

    #[test]
    fn a_tail_is_the_end_and_never_more() {
        let root = tempfile::tempdir().unwrap();
        let dir = GuestDir::new(root.path());
        assert_eq!(dir.tail(CONSOLE_LOG, 5).unwrap(), b"");
        fs::write(dir.file(CONSOLE_LOG), b"0123456789").unwrap();
        assert_eq!(dir.tail(CONSOLE_LOG, 5).unwrap(), b"56789");
        assert_eq!(dir.tail(CONSOLE_LOG, 50).unwrap(), b"0123456789");
    }
}
