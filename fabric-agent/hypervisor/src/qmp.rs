//! A client for QEMU's machine protocol: JSON objects, one a line, over one Unix socket.
//!
//! QEMU serves one client at a time and lets a second one wait without a greeting, so whoever
//! connects keeps the connection. Every wait has a deadline and every line a bound: the other side
//! may be taken over by its guest. Protocol: QEMU `docs/interop/qmp-spec.rst`.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Longer lines end the connection. QEMU's longest answers are some tens of KiB.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Events beyond this are dropped while nobody reads them; a reader takes an event as a hint to
/// look, and there are this many hints before it.
const EVENT_BACKLOG: usize = 64;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// No greeting came: QEMU is stuck or serves another client.
    #[error("qemu sent no greeting within {} ms; it is stuck or serves another client", .0.as_millis())]
    NoGreeting(Duration),
    /// The command was sent and not answered.
    #[error("qemu did not answer \"{command}\" within {} ms", .deadline.as_millis())]
    NoAnswer {
        /// The command.
        command: String,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// QEMU said no.
    #[error("qemu refused \"{command}\": {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's own words.
        description: String,
    },
    /// The connection is gone.
    #[error("the connection to qemu is closed")]
    Closed,
    /// The connection could not be used.
    #[error("{step}")]
    Io {
        /// What was attempted.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What came is not QMP.
    #[error("qemu sent a line that is not its protocol: {0}")]
    Protocol(String),
}

impl QmpError {
    /// Whether the same command may succeed later.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Protocol(_))
    }
}

/// Something that happened in QEMU, such as `SHUTDOWN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QmpEvent {
    /// Its name, in capitals.
    pub name: String,
    /// What QEMU says about it.
    pub data: Value,
}

/// One connection. Cheap to clone; it closes with its last clone or when QEMU ends.
#[derive(Clone, Debug)]
pub struct QmpClient {
    shared: Arc<Shared>,
}

/// Commands that wait for their answer, by id; the error is QEMU's description.
type Pending = HashMap<u64, oneshot::Sender<Result<Value, String>>>;

#[derive(Debug)]
struct Shared {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    pending: Mutex<Pending>,
    next_id: AtomicU64,
    closed: Arc<AtomicBool>,
    reader: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl QmpClient {
    /// Reads the greeting and leaves negotiation mode. The receiver gets events and ends when the
    /// connection does.
    pub async fn connect(
        stream: UnixStream,
        deadline: Duration,
    ) -> Result<(Self, mpsc::Receiver<QmpEvent>), QmpError> {
        let (reader, writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let greeting = timeout(deadline, read_message(&mut reader))
            .await
            .map_err(|_| QmpError::NoGreeting(deadline))??;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Protocol(shorten(&greeting.to_string())));
        }
        let (events, event_receiver) = mpsc::channel(EVENT_BACKLOG);
        let closed = Arc::new(AtomicBool::new(false));
        let shared = Arc::new_cyclic(|weak| {
            let task = read_all(reader, weak.clone(), events, closed.clone());
            Shared {
                writer: tokio::sync::Mutex::new(writer),
                pending: Mutex::default(),
                next_id: AtomicU64::new(1),
                closed: closed.clone(),
                reader: tokio::spawn(task).abort_handle(),
            }
        });
        let client = Self { shared };
        client.execute("qmp_capabilities", None, deadline).await?;
        Ok((client, event_receiver))
    }

    /// Whether no command can succeed any more.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Sends a command and waits for its answer.
    pub async fn execute(
        &self,
        command: &str,
        arguments: Option<Value>,
        deadline: Duration,
    ) -> Result<Value, QmpError> {
        self.execute_with(command, arguments, None, deadline).await
    }

    /// Hands QEMU a descriptor, which later commands call `name`. One that it had under this name
    /// is closed.
    pub async fn give(
        &self,
        name: &str,
        fd: BorrowedFd<'_>,
        deadline: Duration,
    ) -> Result<(), QmpError> {
        let arguments = json!({ "fdname": name });
        self.execute_with("getfd", Some(arguments), Some(fd), deadline).await.map(|_| ())
    }

    /// Hands QEMU a descriptor that it opens in place of a file; returns that file's name. What is
    /// not opened under it is closed with this connection. `whose` is what `query-fdsets` shows as
    /// `opaque`.
    pub async fn add_fd(
        &self,
        fd: BorrowedFd<'_>,
        whose: &str,
        deadline: Duration,
    ) -> Result<String, QmpError> {
        let arguments = json!({ "opaque": whose });
        let answer = self.execute_with("add-fd", Some(arguments), Some(fd), deadline).await?;
        match answer["fdset-id"].as_i64() {
            Some(set) => Ok(format!("/dev/fdset/{set}")),
            None => Err(QmpError::Protocol(shorten(&answer.to_string()))),
        }
    }

    async fn execute_with(
        &self,
        command: &str,
        arguments: Option<Value>,
        fd: Option<BorrowedFd<'_>>,
        deadline: Duration,
    ) -> Result<Value, QmpError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let mut request = json!({ "execute": command, "id": id });
        if let Some(arguments) = arguments {
            request["arguments"] = arguments;
        }
        let (sender, answer) = oneshot::channel();
        self.shared.pending().insert(id, sender);
        let exchange = async {
            self.send(format!("{request}\n"), fd).await?;
            if self.is_closed() {
                // The reader may have cleared the waiting commands before this one was added.
                return Err(QmpError::Closed);
            }
            answer.await.map_err(|_| QmpError::Closed)
        };
        let result = timeout(deadline, exchange).await;
        self.shared.pending().remove(&id);
        match result {
            Err(_) => Err(QmpError::NoAnswer { command: command.to_owned(), deadline }),
            Ok(answer) => answer?.map_err(|description| QmpError::Refused {
                command: command.to_owned(),
                description,
            }),
        }
    }

    async fn send(&self, line: String, fd: Option<BorrowedFd<'_>>) -> Result<(), QmpError> {
        let mut writer = self.shared.writer.lock().await;
        if self.is_closed() {
            return Err(QmpError::Closed);
        }
        // A line that is cut off by the deadline would spoil all that follow.
        let spoiled = CloseUnlessDone { closed: &self.shared.closed, done: false };
        let result = async {
            let mut rest = line.as_bytes();
            if let Some(fd) = fd {
                rest = &rest[send_with(writer.as_ref(), rest, fd).await?..];
            }
            writer.write_all(rest).await
        }
        .await;
        if result.is_ok() {
            spoiled.done();
        }
        result.map_err(|source| QmpError::Io { step: "send a command to qemu", source })
    }
}

/// Sends the beginning of `bytes` with a descriptor beside it (unix(7), SCM_RIGHTS); says how much.
async fn send_with(stream: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    let sent = || {
        let (fds, parts) = ([fd.as_raw_fd()], [IoSlice::new(bytes)]);
        let rights = [ControlMessage::ScmRights(&fds)];
        let socket = stream.as_raw_fd();
        Ok(sendmsg::<()>(socket, &parts, &rights, MsgFlags::MSG_NOSIGNAL, None)?)
    };
    stream.async_io(Interest::WRITABLE, sent).await
}

struct CloseUnlessDone<'a> {
    closed: &'a AtomicBool,
    done: bool,
}

impl CloseUnlessDone<'_> {
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for CloseUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.closed.store(true, Ordering::Release);
        }
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, message: &Value) {
        let Some(id) = message.get("id").and_then(Value::as_u64) else { return };
        let Some(waiting) = self.pending().remove(&id) else { return };
        let answer = match message.get("error") {
            None => Ok(message.get("return").cloned().unwrap_or(Value::Null)),
            Some(error) => {
                let words = error.get("desc").and_then(Value::as_str);
                Err(shorten(words.unwrap_or("no reason given")))
            }
        };
        // The command's deadline may just have passed.
        let _ = waiting.send(answer);
    }
}

async fn read_all(
    mut reader: BufReader<OwnedReadHalf>,
    shared: std::sync::Weak<Shared>,
    events: mpsc::Sender<QmpEvent>,
    closed: Arc<AtomicBool>,
) {
    loop {
        match read_message(&mut reader).await {
            Ok(message) => {
                if let Some(name) = message.get("event").and_then(Value::as_str) {
                    let data = message.get("data").cloned().unwrap_or(Value::Null);
                    let _ = events.try_send(QmpEvent { name: name.to_owned(), data });
                } else if let Some(shared) = shared.upgrade() {
                    shared.answer(&message);
                }
            }
            Err(error) => {
                match error {
                    // QEMU has ended, in good order or not: its process tells how.
                    QmpError::Closed | QmpError::Io { .. } => {}
                    error => tracing::warn!(%error, "closed a QMP connection"),
                }
                break;
            }
        }
    }
    closed.store(true, Ordering::Release);
    if let Some(shared) = shared.upgrade() {
        shared.pending().clear();
    }
}

async fn read_message(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Value, QmpError> {
    let mut line = Vec::new();
    loop {
        let chunk = reader
            .fill_buf()
            .await
            .map_err(|source| QmpError::Io { step: "read from qemu", source })?;
        if chunk.is_empty() {
            return Err(QmpError::Closed);
        }
        let (taken, complete) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (chunk.len(), false),
        };
        line.extend_from_slice(&chunk[..taken]);
        reader.consume(taken);
        if line.len() > MAX_LINE_BYTES {
            return Err(QmpError::Protocol(format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        if complete {
            break;
        }
    }
    serde_json::from_slice(&line)
        .map_err(|_| QmpError::Protocol(shorten(&String::from_utf8_lossy(&line))))
}

/// What a possibly hostile QEMU said, short enough for a log.
fn shorten(text: &str) -> String {
    text.trim().chars().take(200).collect()
}

#[cfg(test)]
mod tests;
