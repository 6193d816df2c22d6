//! The session: the agent's proof that what this run created is in some state file.
//!
//! Opened by the first Create. Ended only by a graceful shutdown; a provider that dies breaks the
//! stream instead, and the agent lets a later run adopt what nobody read.

use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use weft_proto::v1::sessions_client::SessionsClient;
use weft_proto::v1::{self, session_event::Event, session_request::Request};

/// How long the agent may take to say that it has seen the end. Shutdown as a whole has 1.5 s.
const END_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Session(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    id: String,
    requests: mpsc::Sender<v1::SessionRequest>,
    /// Ends with the stream.
    watcher: JoinHandle<()>,
}

impl Session {
    /// The session's id; opens one where there is none or where it broke.
    pub(super) async fn id(&self, channel: &Channel) -> Result<String, Status> {
        let mut open = self.0.lock().await;
        match &*open {
            Some(session) if !session.watcher.is_finished() => Ok(session.id.clone()),
            _ => {
                let session = Open::new(channel.clone()).await?;
                Ok(open.insert(session).id.clone())
            }
        }
    }

    /// The agent does not know it any more.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }

    /// The graceful end. Nothing can be done about an agent that does not hear it: what was
    /// created is then claimed by the next read.
    pub(super) async fn end(&self) {
        let Some(mut session) = self.0.lock().await.take() else { return };
        let sent = session.requests.send(request(Request::End(v1::SessionEnd {}))).await;
        let seen = tokio::time::timeout(END_TIMEOUT, &mut session.watcher).await;
        if sent.is_err() || seen.is_err() {
            tracing::warn!(session = session.id, "the agent did not confirm the session's end");
        }
    }
}

impl Open {
    async fn new(channel: Channel) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(2);
        let client = concat!("terraform-provider-weft ", env!("CARGO_PKG_VERSION")).to_owned();
        let hello = request(Request::Hello(v1::SessionHello { client }));
        requests
            .send(hello)
            .await
            .map_err(|_| Status::internal("the session's queue is closed"))?;
        let mut events =
            SessionsClient::new(channel).open(ReceiverStream::new(outgoing)).await?.into_inner();
        let Some(Event::Opened(opened)) = events.message().await?.and_then(|event| event.event)
        else {
            return Err(Status::internal("the agent did not open the session"));
        };
        tracing::debug!(
            session = opened.session_id,
            agent = opened.agent_version,
            "session opened"
        );
        let watcher = tokio::spawn(watch(events));
        Ok(Self { id: opened.session_id, requests, watcher })
    }
}

/// Lasts as long as the session does.
async fn watch(mut events: Streaming<v1::SessionEvent>) {
    while let Ok(Some(event)) = events.message().await {
        if matches!(event.event, Some(Event::Ended(_))) {
            return;
        }
    }
}

fn request(request: Request) -> v1::SessionRequest {
    v1::SessionRequest { request: Some(request) }
}
