//! Waiting for an instance. The agent judges; here the wait only survives broken streams, ends at
//! the deadline and when the user presses Ctrl-C.

use std::sync::Arc;
use std::time::Duration;

use tfplugin::CancellationToken;
use tokio::time::Instant;
use tonic::transport::Channel;
use weft_model::{Problem, Reason};
use weft_proto::problem_from_status;
use weft_proto::v1::{self, wait_request::Until};

use crate::agent::Connection;
use crate::agent::verdict::{MAX_NOT_NOW, Verdict};
use crate::kind::wire::Wire as _;

/// How much later than the agent the provider gives up: the agent's error has the evidence.
const GRACE: Duration = Duration::from_secs(5);
/// How long the agent may be out of reach: it is restarted in a few seconds, or not at all.
const OUT_OF_REACH: Duration = Duration::from_secs(60);
/// Between two streams.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes a state and a phase.
pub(crate) type Told<'a> = dyn Fn(&str, &str) + Sync + 'a;

pub(crate) struct Wait<'a> {
    pub(crate) connection: &'a Arc<Connection>,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) id: &'a str,
    pub(crate) deadline: Instant,
    /// What a user who cancels has to know.
    pub(crate) if_cancelled: &'static str,
    /// Hears of states and phases on the way.
    pub(crate) told: Option<&'a Told<'a>>,
}

impl Wait<'_> {
    /// Returns when `until` holds.
    ///
    /// # Errors
    /// The agent's, with phases and console; [`Reason::DeadlineExceeded`] where it says nothing.
    pub(crate) async fn until(&self, until: Until) -> Result<(), Problem> {
        let patience = tokio::time::sleep_until(self.deadline + GRACE);
        tokio::select! {
            biased;
            result = self.follow(until) => result,
            () = self.cancel.cancelled() => Err(Problem::new(
                Reason::FailedPrecondition,
                format!("waiting for {} was cancelled", self.id),
            )
            .remedy(self.if_cancelled)),
            () = patience => Err(Problem::new(
                Reason::DeadlineExceeded,
                format!("the agent did not say in time what became of {}", self.id),
            )
            .remedy(format!("look at weft get {} and at the agent's log", self.id))),
        }
    }

    async fn follow(&self, until: Until) -> Result<(), Problem> {
        let mut heard_of = Instant::now();
        let mut not_now = 0;
        loop {
            let channel = self.connection.channel().await?;
            let Err(status) = self.one_stream(channel, until.clone(), &mut heard_of).await else {
                return Ok(());
            };
            let patience = self.deadline.min(heard_of + OUT_OF_REACH);
            match Verdict::of(&status) {
                Verdict::Away if Instant::now() < patience => not_now = 0,
                Verdict::Away => return Err(self.connection.explain(&status).await),
                Verdict::NotNow if not_now < MAX_NOT_NOW => not_now += 1,
                Verdict::NotNow | Verdict::Refused => return Err(problem_from_status(&status)),
            }
            tracing::warn!(%status, instance = self.id, "the wait broke, asking again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// `heard_of` is set to the moment when the agent was last heard of.
    async fn one_stream(
        &self,
        channel: Channel,
        until: Until,
        heard_of: &mut Instant,
    ) -> Result<(), tonic::Status> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let request = v1::WaitRequest {
            id: self.id.to_owned(),
            until: Some(until),
            timeout_seconds: u32::try_from(left.as_secs().max(1)).unwrap_or(u32::MAX),
        };
        let mut events = v1::Instance::client(channel).wait(request).await?.into_inner();
        *heard_of = Instant::now();
        while let Some(event) =
            events.message().await.inspect_err(|_| *heard_of = Instant::now())?
        {
            let v1::WaitEvent { state, phase, done } = event;
            if done {
                return Ok(());
            }
            tracing::info!(instance = self.id, state, phase, "waiting");
            if let Some(told) = self.told {
                told(&state, &phase);
            }
        }
        Err(tonic::Status::unavailable("the agent ended the wait without an answer"))
    }
}
