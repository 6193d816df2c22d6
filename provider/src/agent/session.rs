//! The session: the agent's proof that what this run created is in some state file.
//!
//! Opened by the first Create, and one for the whole run: a stream that breaks (the agent was
//! restarted) is followed by another one of the same session, or else the run would adopt what it
//! made itself before. Ended only by a graceful shutdown; a provider that dies breaks the stream
//! instead, and the agent lets a later run adopt what nobody read.

use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use weft_model::{Problem, Reason};
use weft_proto::status_from_problem;
use weft_proto::v1::sessions_client::SessionsClient;
use weft_proto::v1::{self, session_event::Event, session_request::Request};

use super::PAUSE_MIN;

/// How long the agent may take to say that it has seen the end. Shutdown as a whole has 1.5 s.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The session of one run.
#[derive(Debug, Default)]
pub(super) struct Session(Mutex<Run>);

#[derive(Debug, Default)]
struct Run {
    /// From the first stream on.
    id: Option<String>,
    stream: Option<Stream>,
    /// How many streams there were.
    streams: u64,
}

/// What keeps the session alive.
#[derive(Debug)]
struct Stream {
    number: u64,
    requests: mpsc::Sender<v1::SessionRequest>,
    /// Ends with the stream; tells whether the agent confirmed the end.
    watcher: JoinHandle<bool>,
    /// The agent said that the session is not alive.
    is_refused: bool,
}

/// The session as one Create uses it.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) id: String,
    pub(super) stream: u64,
}

impl Session {
    /// The session, alive as far as is known here.
    pub(super) async fn alive(&self, channel: &Channel) -> Result<Ticket, Status> {
        let mut run = self.0.lock().await;
        let stream = run.stream(channel).await?.number;
        Ok(Ticket { id: run.id.clone().unwrap_or_default(), stream })
    }

    /// The agent said that the session is not alive, of a Create that counted on the stream
    /// called `number`. Where there is a newer one by now, that answer is out of date.
    pub(super) async fn refused(&self, number: u64) {
        if let Some(stream) = &mut self.0.lock().await.stream
            && stream.number == number
        {
            stream.is_refused = true;
        }
    }

    /// The graceful end, also of a session whose stream is broken. Nothing can be done about an
    /// agent that does not hear it: what was created is then claimed by the next read.
    pub(super) async fn end(&self, channel: &Channel) {
        let ending = async {
            while let Err(status) = self.try_end(channel).await {
                tracing::debug!(%status, "the session has not ended yet, trying again");
                tokio::time::sleep(PAUSE_MIN).await;
            }
        };
        if tokio::time::timeout(END_TIMEOUT, ending).await.is_err() {
            tracing::warn!("the agent did not confirm the session's end");
        }
    }

    async fn try_end(&self, channel: &Channel) -> Result<(), Status> {
        let mut run = self.0.lock().await;
        if run.id.is_none() {
            return Ok(());
        }
        let stream = run.stream(channel).await?;
        // Where nobody takes it, the watcher has ended and says so.
        let _ = stream.requests.send(request(Request::End(v1::SessionEnd {}))).await;
        match (&mut stream.watcher).await {
            Ok(true) => {
                *run = Run::default();
                Ok(())
            }
            _ => {
                run.stream = None;
                Err(Status::unavailable("the session's stream broke"))
            }
        }
    }
}

impl Run {
    /// The stream; opens one where there is none or where it broke.
    async fn stream(&mut self, channel: &Channel) -> Result<&mut Stream, Status> {
        let stream = match self.stream.take() {
            Some(stream) if !stream.is_refused && !stream.watcher.is_finished() => stream,
            // A stream that was refused is given up only when the new one has taken over.
            _refused => {
                let (id, stream) = open(channel, self.id.as_deref(), self.streams + 1).await?;
                self.id = Some(id);
                self.streams += 1;
                stream
            }
        };
        Ok(self.stream.insert(stream))
    }
}

/// A new stream of the session `id`; without one, of a new session.
async fn open(
    channel: &Channel,
    id: Option<&str>,
    number: u64,
) -> Result<(String, Stream), Status> {
    let (requests, outgoing) = mpsc::channel(2);
    let hello = v1::SessionHello {
        client: concat!("terraform-provider-weft ", env!("CARGO_PKG_VERSION")).to_owned(),
        session_id: id.unwrap_or_default().to_owned(),
    };
    requests
        .send(request(Request::Hello(hello)))
        .await
        .map_err(|_| Status::internal("the session's queue is closed"))?;
    let mut events = SessionsClient::new(channel.clone())
        .open(ReceiverStream::new(outgoing))
        .await?
        .into_inner();
    let event = events.message().await?.and_then(|event| event.event);
    let Some(Event::Opened(v1::SessionOpened { session_id, agent_version })) = event else {
        return Err(Status::internal("the agent did not open the session"));
    };
    if id.is_some_and(|id| id != session_id) {
        return Err(status_from_problem(&another(&agent_version)));
    }
    tracing::debug!(session = session_id, agent = agent_version, number, "session opened");
    let watcher = tokio::spawn(watch(events));
    Ok((session_id, Stream { number, requests, watcher, is_refused: false }))
}

/// Going on in another session, this run would adopt what it made itself before.
fn another(agent_version: &str) -> Problem {
    let message =
        format!("the agent ({agent_version}) does not go on with the session of this run");
    Problem::new(Reason::Internal, message)
        .remedy("apply again; with an agent as new as the provider this does not happen")
}

/// Lasts as long as the stream does; `true` where the agent confirms the session's end.
async fn watch(mut events: Streaming<v1::SessionEvent>) -> bool {
    while let Ok(Some(event)) = events.message().await {
        if matches!(event.event, Some(Event::Ended(_))) {
            return true;
        }
    }
    false
}

fn request(request: Request) -> v1::SessionRequest {
    v1::SessionRequest { request: Some(request) }
}
