//! Having the agent fetch a file: asking, showing how far it is, asking again where the stream
//! breaks.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tfplugin::CancellationToken;
use tokio::time::Instant;
use tonic::transport::Channel;
use weft_model::{BlobRole, Checksum, Digest, ImageUrl, Problem, Reason};
use weft_proto::v1::images_client::ImagesClient;
use weft_proto::{problem_from_status, v1};

use super::Connection;
use super::verdict::{MAX_NOT_NOW, Verdict};

/// How long the agent may be out of reach: it is restarted in a few seconds, or not at all.
const OUT_OF_REACH: Duration = Duration::from_secs(60);
/// Between two streams.
const PAUSE: Duration = Duration::from_millis(500);

/// A file that the agent is to have.
#[derive(Debug)]
pub(crate) struct Fetch<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) deadline: Instant,
    pub(crate) url: &'a ImageUrl,
    pub(crate) checksum: Checksum,
    pub(crate) role: BlobRole,
}

/// How far a download has come, for who has waited in vain.
#[derive(Debug, Default)]
struct Seen {
    bytes: u64,
    total: Option<u64>,
    /// What broke it last; empty where nothing has.
    trouble: String,
    /// The last line of the log, counted as [`Fetch::report`] does.
    logged: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes had come", self.bytes)?;
        if let Some(total) = self.total {
            write!(f, " of {total}")?;
        }
        match self.trouble.as_str() {
            "" => Ok(()),
            trouble => write!(f, "; the last trouble: {trouble}"),
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fetch<'_> {
    /// Returns when the agent has the file, verified: what its blob goes by.
    ///
    /// # Errors
    /// The agent's, at `url`, `sha256` or `sha512`; [`Reason::DeadlineExceeded`].
    pub(crate) async fn run(&self) -> Result<Digest, Problem> {
        let kept = "apply again: what has come is kept and gone on with";
        let seen = Mutex::default();
        tokio::select! {
            biased;
            result = self.follow(&seen) => result,
            () = self.cancel.cancelled() => Err(Problem::new(
                Reason::FailedPrecondition,
                format!("waiting for {} was cancelled", self.url),
            )
            .remedy(format!("{kept}; the agent stops fetching soon when nobody waits"))),
            () = tokio::time::sleep_until(self.deadline) => Err(Problem::new(
                Reason::DeadlineExceeded,
                format!("the agent has not fetched {} in time", self.url),
            )
            .evidence(lock(&seen).to_string())
            .remedy(format!("{kept}; or raise timeouts.create"))),
        }
    }

    async fn follow(&self, seen: &Mutex<Seen>) -> Result<Digest, Problem> {
        let (mut heard_of, mut not_now) = (Instant::now(), 0);
        loop {
            let channel = self.connection.channel().await?;
            let status = match self.one_stream(channel, &mut heard_of, seen).await {
                Ok(digest) => return Ok(digest),
                Err(status) => status,
            };
            match Verdict::of(&status) {
                Verdict::Away if Instant::now() < heard_of + OUT_OF_REACH => not_now = 0,
                Verdict::Away => return Err(self.connection.explain(&status).await),
                Verdict::NotNow if not_now < MAX_NOT_NOW => not_now += 1,
                Verdict::NotNow | Verdict::Refused => return Err(problem_from_status(&status)),
            }
            tracing::warn!(%status, url = %self.url, "the agent's answer broke off, asking again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// `heard_of` is set to the moment when the agent was last heard of.
    async fn one_stream(
        &self,
        channel: Channel,
        heard_of: &mut Instant,
        seen: &Mutex<Seen>,
    ) -> Result<Digest, tonic::Status> {
        let (sha256, sha512) = self.checksum.to_fields();
        let (url, role) = (self.url.expose().to_owned(), self.role.to_string());
        let request = v1::FetchRequest { url, sha256, role, sha512 };
        let mut events = ImagesClient::new(channel).fetch(request).await?.into_inner();
        *heard_of = Instant::now();
        while let Some(event) =
            events.message().await.inspect_err(|_| *heard_of = Instant::now())?
        {
            self.report(&event, &mut lock(seen));
            if event.done {
                return self.blob(&event.sha256);
            }
        }
        Err(tonic::Status::unavailable("the agent ended its answer without a result"))
    }

    /// What an agent of before this field does not say is what it was asked for.
    fn blob(&self, said: &str) -> Result<Digest, tonic::Status> {
        match self.checksum {
            Checksum::Sha256(digest) => Ok(digest),
            Checksum::Sha512(_) => said.parse().map_err(|_| {
                tonic::Status::internal("the agent does not say what it has fetched: update it")
            }),
        }
    }

    /// One line for each tenth of the file, or for each 64 MiB where its length is not known.
    fn report(&self, event: &v1::FetchEvent, seen: &mut Seen) {
        let v1::FetchEvent { received_bytes: bytes, total_bytes, trouble, .. } = event;
        if !trouble.is_empty() {
            tracing::warn!(url = %self.url, trouble, "the agent's download broke, it goes on");
            seen.trouble.clone_from(trouble);
        }
        (seen.bytes, seen.total) = (*bytes, *total_bytes);
        let line = match total_bytes {
            Some(total) => bytes.saturating_mul(10) / (*total).max(1),
            None => bytes >> 26,
        };
        if line > seen.logged {
            seen.logged = line;
            tracing::info!(url = %self.url, bytes, of = total_bytes, "the agent is fetching");
        }
    }
}
