//! Having the agent unpack a disk that came compressed: showing how far it is, asking again where the
//! stream breaks.

use std::time::Duration;

use tfplugin::CancellationToken;
use tokio::time::Instant;
use weft_model::{Problem, Reason};
use weft_proto::v1::images_client::ImagesClient;
use weft_proto::{problem_from_status, v1};

use super::Connection;
use super::verdict::{MAX_NOT_NOW, Verdict};

/// How long the agent may be out of reach: it is restarted in a few seconds, or not at all.
const OUT_OF_REACH: Duration = Duration::from_secs(60);
/// Between two streams.
const PAUSE: Duration = Duration::from_millis(500);

/// A disk that the agent has, as it came.
#[derive(Debug)]
pub(crate) struct Unpack<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) deadline: Instant,
    /// Of the file as it came.
    pub(crate) digest: String,
}

impl Unpack<'_> {
    /// Returns when the disk can be used; at once where it is not compressed.
    ///
    /// # Errors
    /// The agent's; [`Reason::DeadlineExceeded`].
    pub(crate) async fn run(&self) -> Result<(), Problem> {
        tokio::select! {
            biased;
            result = self.follow() => result,
            () = self.cancel.cancelled() => Err(Problem::new(
                Reason::FailedPrecondition,
                "waiting for the image to be unpacked was cancelled",
            )
            .remedy("apply again: what was unpacked by then is there at once")),
            () = tokio::time::sleep_until(self.deadline) => Err(Problem::new(
                Reason::DeadlineExceeded,
                "the agent has not unpacked the image in time",
            )
            .remedy("apply again, or raise timeouts.create")),
        }
    }

    async fn follow(&self) -> Result<(), Problem> {
        let (mut heard_of, mut not_now) = (Instant::now(), 0);
        loop {
            let channel = self.connection.channel().await?;
            let Err(status) = self.one_stream(ImagesClient::new(channel), &mut heard_of).await
            else {
                return Ok(());
            };
            match Verdict::of(&status) {
                // An agent of before: it says what it thinks of the file in Create.
                _ if status.code() == tonic::Code::Unimplemented => return Ok(()),
                Verdict::Away if Instant::now() < heard_of + OUT_OF_REACH => not_now = 0,
                Verdict::Away => return Err(self.connection.explain(&status).await),
                Verdict::NotNow if not_now < MAX_NOT_NOW => not_now += 1,
                Verdict::NotNow | Verdict::Refused => return Err(problem_from_status(&status)),
            }
            tracing::warn!(%status, "the agent's answer broke off, asking again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn one_stream(
        &self,
        mut client: ImagesClient<tonic::transport::Channel>,
        heard_of: &mut Instant,
    ) -> Result<(), tonic::Status> {
        let request = v1::UnpackRequest { sha256: self.digest.clone() };
        let mut events = client.unpack(request).await?.into_inner();
        *heard_of = Instant::now();
        let mut tenths = 0;
        while let Some(event) =
            events.message().await.inspect_err(|_| *heard_of = Instant::now())?
        {
            let v1::UnpackEvent { read_bytes, total_bytes, done, unpacked_sha256: _ } = event;
            if done {
                return Ok(());
            }
            let now = read_bytes.saturating_mul(10) / total_bytes.max(1);
            if now > tenths {
                tenths = now;
                let percent = tenths * 10;
                tracing::info!(percent, "the agent is unpacking the image");
            }
        }
        Err(tonic::Status::unavailable("the agent ended its answer without a result"))
    }
}
