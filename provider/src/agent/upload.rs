//! Sending a file to the agent: in chunks, from where the agent's part ends, until it is whole.

use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use tfplugin::CancellationToken;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::{MutexGuard, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use weft_model::{Digest, Problem, Reason};
use weft_proto::v1::images_client::ImagesClient;
use weft_proto::{UPLOAD_CHUNK_BYTES, problem_from_status, v1};

use super::verdict::Verdict;
use super::{Connection, PAUSE_MIN};

/// Streams in a row that may end early without the upload having come further.
const MAX_STALLS: u32 = 5;
/// How long the agent may take to say what it has: after a restart it reads its part again.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(600);

/// The turn of one image: all of its files are sent before any of another's, so that none of them
/// waits at the agent, which keeps them for a while only, for what others send.
pub(crate) struct Uploads<'a> {
    connection: &'a Connection,
    cancel: &'a CancellationToken,
    deadline: Instant,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Uploads<'a> {
    /// Waits for the turn; `path` is what is to be sent first.
    ///
    /// # Errors
    /// [`Reason::DeadlineExceeded`], and that the run was cancelled.
    pub(crate) async fn begin(
        connection: &'a Connection,
        cancel: &'a CancellationToken,
        deadline: Instant,
        path: &Path,
    ) -> Result<Self, Problem> {
        let turn = async { Ok(connection.uploads.lock().await) };
        let turn = in_time(cancel, deadline, path, turn).await?;
        Ok(Self { connection, cancel, deadline, _turn: turn })
    }

    /// Brings the file at `path`, `size` bytes with the digest `digest`, to the agent.
    ///
    /// Another run may be sending the same file: then each goes on where both have come to together.
    ///
    /// # Errors
    /// Those of [`Self::begin`], the agent's, and that the file cannot be read.
    pub(crate) async fn send(&self, path: &Path, digest: Digest, size: u64) -> Result<(), Problem> {
        let sent = upload_all(self.connection, path, digest, size);
        in_time(self.cancel, self.deadline, path, sent).await
    }
}

async fn in_time<T>(
    cancel: &CancellationToken,
    deadline: Instant,
    path: &Path,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    tokio::select! {
        biased;
        () = tokio::time::sleep_until(deadline) => Err(Problem::new(
            Reason::DeadlineExceeded,
            format!("{} was not uploaded in time", path.display()),
        )
        .remedy("apply again: what the agent has already is not sent twice; or raise timeouts.create")),
        () = cancel.cancelled() => Err(cancelled(path)),
        result = work => result,
    }
}

async fn upload_all(
    connection: &Connection,
    path: &Path,
    digest: Digest,
    size: u64,
) -> Result<(), Problem> {
    let (mut reached, mut stalls) = (None, 0);
    loop {
        let have = begin(connection, digest, size).await?;
        if have.complete {
            return Ok(());
        }
        stalls = if reached < Some(have.offset_bytes) { 0 } else { stalls + 1 };
        reached = Some(have.offset_bytes);
        let part = Part { path, digest, size, offset: have.offset_bytes };
        match part.send(connection).await {
            Ok(()) => return Ok(()),
            Err(Failure::Interrupted(status)) if stalls < MAX_STALLS => {
                tracing::warn!(%status, path = %path.display(), "upload interrupted, going on");
                tokio::time::sleep(PAUSE_MIN * (1 << stalls)).await;
            }
            Err(Failure::Interrupted(status)) => return Err(connection.explain(&status).await),
            Err(Failure::Refused(problem)) => return Err(problem),
        }
    }
}

/// How much of the file the agent has.
async fn begin(
    connection: &Connection,
    digest: Digest,
    size: u64,
) -> Result<v1::BeginUploadResponse, Problem> {
    let begin = v1::BeginUploadRequest { sha256: digest.to_string(), size_bytes: size };
    let limit = BEGIN_TIMEOUT.max(connection.settings.request_timeout);
    let request = |channel| {
        let begin = begin.clone();
        async move { ImagesClient::new(channel).begin_upload(begin).await }
    };
    connection.call_within(limit, request).await
}

enum Failure {
    /// The connection broke, or the agent has got further meanwhile: the rest can be sent later.
    Interrupted(tonic::Status),
    Refused(Problem),
}

struct Part<'a> {
    path: &'a Path,
    digest: Digest,
    size: u64,
    offset: u64,
}

impl Part<'_> {
    async fn send(&self, connection: &Connection) -> Result<(), Failure> {
        let unreadable = |error| Failure::Refused(unreadable(self.path, &error));
        let mut file = File::open(self.path).await.map_err(unreadable)?;
        file.seek(SeekFrom::Start(self.offset)).await.map_err(unreadable)?;
        let channel = connection.channel().await.map_err(Failure::Refused)?;
        // Few chunks in flight: memory stays bounded whatever the file's size.
        let (chunks, outgoing) = mpsc::channel(2);
        let mut client = ImagesClient::new(channel);
        let sending = client.upload(ReceiverStream::new(outgoing));
        let (read, answer) = tokio::join!(self.read(file, chunks), sending);
        match answer {
            // The reader's error explains why the agent got too little.
            _ if read.is_err() => read.map_err(unreadable),
            Ok(_) => Ok(()),
            Err(status) => Err(match Verdict::of(&status) {
                Verdict::Away | Verdict::NotNow => Failure::Interrupted(status),
                Verdict::Refused => Failure::Refused(problem_from_status(&status)),
            }),
        }
    }

    /// Reads the file into `chunks` until it ends or nobody takes them any more.
    async fn read(
        &self,
        mut file: File,
        chunks: mpsc::Sender<v1::UploadRequest>,
    ) -> std::io::Result<()> {
        let mut offset = self.offset;
        let mut first = true;
        while offset < self.size || first {
            let mut data = BytesMut::zeroed(UPLOAD_CHUNK_BYTES);
            let mut filled = 0;
            while filled < data.len() {
                match file.read(&mut data[filled..]).await? {
                    0 => break,
                    n => filled += n,
                }
            }
            data.truncate(filled);
            let mut request = v1::UploadRequest { data: data.to_vec(), ..Default::default() };
            if first {
                request.sha256 = self.digest.to_string();
                request.size_bytes = self.size;
                request.offset_bytes = offset;
                let name = self.path.file_name().map(std::ffi::OsStr::to_string_lossy);
                request.name = name.unwrap_or_default().into_owned();
            }
            // The first message opens the upload, also where only the verdict is still missing.
            if (filled == 0 && !first) || chunks.send(request).await.is_err() {
                return Ok(());
            }
            first = false;
            self.report(offset, offset + filled as u64);
            offset += filled as u64;
        }
        Ok(())
    }

    /// One line for each tenth of the file.
    fn report(&self, before: u64, after: u64) {
        let tenths = |bytes: u64| bytes.saturating_mul(10) / self.size.max(1);
        if tenths(after) > tenths(before) {
            let percent = tenths(after) * 10;
            tracing::info!(path = %self.path.display(), percent, bytes = after, "uploading");
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(Reason::FailedPrecondition, format!("cannot read {}", path.display()))
        .evidence(error.to_string())
}

fn cancelled(path: &Path) -> Problem {
    Problem::new(
        Reason::FailedPrecondition,
        format!("the upload of {} was cancelled", path.display()),
    )
    .remedy("apply again: what the agent has already is not sent twice")
}
