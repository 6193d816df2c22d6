//! Waiting for a snapshot to be made: one stream of changes, and a look where it is the snapshot's own.

use std::sync::Arc;
use std::time::Duration;

use tfplugin::CancellationToken;
use tokio::time::Instant;
use tonic::transport::Channel;
use weft_model::{Problem, Reason, SnapshotProgress};
use weft_proto::convert::snapshot_from_wire;
use weft_proto::v1::watch_client::WatchClient;
use weft_proto::{problem_from_status, v1};

use super::Snapshot;
use crate::agent::Connection;
use crate::agent::reads::{self, Claim};
use crate::agent::verdict::{MAX_NOT_NOW, Verdict};

/// How long the agent may be out of reach: it is restarted in a few seconds, or not at all.
const OUT_OF_REACH: Duration = Duration::from_secs(60);
/// Between two streams.
const PAUSE: Duration = Duration::from_millis(500);
/// What a watch calls snapshots.
const KIND: &str = "snapshots";

pub(crate) struct Wait<'a> {
    pub(crate) connection: &'a Arc<Connection>,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) deadline: Instant,
}

/// Why one stream did not lead to the snapshot.
enum Broken {
    Stream(tonic::Status),
    Snapshot(Problem),
}

impl Wait<'_> {
    /// Returns when the snapshot, which was just `asked` for, is made.
    ///
    /// # Errors
    /// It cannot be made, or is not in time: the snapshot stays, and is replaced by the next apply.
    pub(crate) async fn until_completed(
        &self,
        asked: v1::Snapshot,
    ) -> Result<v1::Snapshot, Problem> {
        if let Some(made) = completed(&asked)? {
            return Ok(made);
        }
        let object = snapshot_from_wire(asked)?;
        let (id, source) = (object.id.to_string(), object.spec.order.source);
        tokio::select! {
            biased;
            made = self.follow(&id) => made,
            () = self.cancel.cancelled() => Err(Problem::new(
                Reason::FailedPrecondition,
                format!("waiting for {id} was cancelled"),
            ).remedy("the agent goes on making it")),
            () = tokio::time::sleep_until(self.deadline) => Err(Problem::new(
                Reason::DeadlineExceeded,
                format!("{id} is not made yet"),
            ).remedy(format!(
                "weft get {} tells what it waits for; the agent goes on trying, and \
                 timeouts = {{ create = ... }} gives it longer",
                source.id()
            ))),
        }
    }

    async fn follow(&self, id: &str) -> Result<v1::Snapshot, Problem> {
        let (mut heard_of, mut not_now) = (Instant::now(), 0);
        loop {
            let channel = self.connection.channel().await?;
            let status = match self.one_stream(channel, id, &mut heard_of).await {
                Ok(made) => return Ok(made),
                Err(Broken::Snapshot(problem)) => return Err(problem),
                Err(Broken::Stream(status)) => status,
            };
            match Verdict::of(&status) {
                Verdict::Away if Instant::now() < heard_of + OUT_OF_REACH => not_now = 0,
                Verdict::Away => return Err(self.connection.explain(&status).await),
                Verdict::NotNow if not_now < MAX_NOT_NOW => not_now += 1,
                Verdict::NotNow | Verdict::Refused => return Err(problem_from_status(&status)),
            }
            tracing::warn!(%status, snapshot = id, "the watch broke, watching again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// `heard_of` is set to the moment when the agent was last heard of.
    async fn one_stream(
        &self,
        channel: Channel,
        id: &str,
        heard_of: &mut Instant,
    ) -> Result<v1::Snapshot, Broken> {
        let request = v1::WatchRequest { from_revision: 0, kinds: vec![KIND.to_owned()] };
        let watching = WatchClient::new(channel).watch(request).await;
        let mut changes = watching.map_err(Broken::Stream)?.into_inner();
        loop {
            // After the watch has begun, so that no change is missed.
            if let Some(made) = self.look(id).await.map_err(Broken::Snapshot)? {
                return Ok(made);
            }
            *heard_of = Instant::now();
            loop {
                let change = changes.message().await;
                *heard_of = Instant::now();
                match change.map_err(Broken::Stream)? {
                    Some(change) if change.id == id => break,
                    Some(_) => {}
                    None => {
                        let message = "the agent ended the watch";
                        return Err(Broken::Stream(tonic::Status::unavailable(message)));
                    }
                }
            }
        }
    }

    /// The snapshot, if it is made.
    async fn look(&self, id: &str) -> Result<Option<v1::Snapshot>, Problem> {
        let wire = reads::read::<Snapshot>(self.connection, id, Claim::No).await?;
        let wire = wire.ok_or_else(|| Problem::not_found(format!("{id} is gone already")))?;
        completed(&wire)
    }
}

/// # Errors
/// It cannot be made.
fn completed(wire: &v1::Snapshot) -> Result<Option<v1::Snapshot>, Problem> {
    let object = snapshot_from_wire(wire.clone())?;
    match object.spec.progress {
        SnapshotProgress::Completed => Ok(Some(wire.clone())),
        SnapshotProgress::Pending => Ok(None),
        SnapshotProgress::Error => {
            let why = object.spec.reason;
            let why = why.unwrap_or_else(|| "the agent does not say why".to_owned());
            Err(Problem::new(Reason::FailedPrecondition, format!("{}: {why}", object.id))
                .remedy("put that right and apply again: it is replaced then"))
        }
    }
}
