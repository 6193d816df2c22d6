//! A client like Terraform with its provider: it knows what it was answered, and repeats what it
//! was not.

mod capture;
mod module;
mod storage;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status};
use v1::session_request::Request;
use weft_model::Problem;
use weft_proto::{problem_from_status, v1};

use crate::support::{Agent, Api, token};
use module::State;
pub(super) use module::{DISK_BY_URL, GROWN, IMAGES, ROOT_IOPS};
pub(super) use storage::GROWN_GIB;

/// How far a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There was no agent yet.
    NotStarted,
    /// There is nothing of it.
    Absent,
    /// All of it, with a running instance.
    Made,
    /// All have other names or tags.
    Renamed,
    /// The instance has another type, and no room to grow any more.
    Resized,
    /// The instance's guest has grown while it ran.
    Grown,
    /// The instance is stopped.
    Stopped,
    /// There are a snapshot and an image of the instance.
    Captured,
    /// The instance has a volume, which has a snapshot; its root disk and the volume have grown.
    Stored,
    /// The instance is hibernated.
    Hibernated,
    /// The instance has gone on from there.
    Awake,
}

/// What a client does when the agent is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// It repeats its request.
    Waits,
    /// It ends; somebody runs it again.
    GivesUp,
}

/// The agent was away, and the client does not wait.
#[derive(Debug)]
pub(super) struct Away;

/// One run of a client.
#[derive(Debug)]
pub(super) struct Client {
    socket: String,
    /// Where the agent fetches an image from.
    url: String,
    patience: Patience,
    state: State,
    api: Option<Api>,
    session: Option<Session>,
    session_id: String,
}

/// An open stream of a session.
#[derive(Debug)]
struct Session {
    _requests: mpsc::Sender<v1::SessionRequest>,
    _events: tonic::Streaming<v1::SessionEvent>,
}

const NOT_YET: Duration = Duration::from_millis(5);

/// Whether nobody has answered: as the provider judges (`provider/src/agent/verdict.rs`).
fn is_away(status: &Status) -> bool {
    let made_up = std::error::Error::source(status).is_some();
    status.details().is_empty() && (status.code() == Code::Unavailable || made_up)
}

impl Client {
    pub(super) fn new(agent: &Agent, url: &str) -> Self {
        Self {
            socket: format!("unix://{}", agent.socket().display()),
            url: url.to_owned(),
            patience: Patience::Waits,
            state: State::default(),
            api: None,
            session: None,
            session_id: String::new(),
        }
    }

    /// The next run of the client, which knows what this one was answered.
    pub(super) fn again(&self, agent: &Agent, patience: Patience) -> Self {
        Self { patience, state: self.state.clone(), ..Self::new(agent, &self.url) }
    }

    async fn api(&mut self) -> Api {
        loop {
            if let Some(api) = &self.api {
                return api.clone();
            }
            // Also a client that gives up waits for an agent that it never met.
            match weft_proto::client::connect(&self.socket.parse().unwrap()).await {
                Ok(channel) => self.api = Some(Api::new(channel)),
                Err(_) => tokio::time::sleep(NOT_YET).await,
            }
        }
    }

    /// One request, repeated as long as it may be.
    pub(super) async fn call<T>(
        &mut self,
        request: impl AsyncFn(Api) -> Result<T, Status>,
    ) -> Result<Result<T, Status>, Away> {
        loop {
            match request(self.api().await).await {
                Err(status) if is_away(&status) => match self.patience {
                    Patience::Waits => tokio::time::sleep(NOT_YET).await,
                    Patience::GivesUp => return Err(Away),
                },
                answer => return Ok(answer),
            }
        }
    }

    /// A request that is not refused.
    pub(super) async fn ask<T>(
        &mut self,
        request: impl AsyncFn(Api) -> Result<Response<T>, Status>,
    ) -> Result<T, Away> {
        match self.call(request).await? {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => panic!("refused: {:?}", problem_from_status(&status)),
        }
    }

    /// Opens the session of this run, again if it has one.
    async fn open_session(&mut self) -> Result<(), Away> {
        let id = self.session_id.clone();
        let opened = self
            .call(async |api| {
                let (requests, receiver) = mpsc::channel(4);
                let client = "test".to_owned();
                let hello = Request::Hello(v1::SessionHello { client, session_id: id.clone() });
                let hello = v1::SessionRequest { request: Some(hello) };
                requests.send(hello).await.map_err(|_| Status::internal("closed"))?;
                let mut sessions = api.sessions.clone();
                let mut events = sessions.open(ReceiverStream::new(receiver)).await?.into_inner();
                let event = events.message().await?.and_then(|event| event.event);
                let Some(v1::session_event::Event::Opened(opened)) = event else {
                    return Err(Status::unavailable("the stream broke"));
                };
                let session = Session { _requests: requests, _events: events };
                Ok((opened.session_id, session))
            })
            .await?;
        let (id, session) = opened.unwrap();
        self.session_id = id;
        self.session = Some(session);
        Ok(())
    }

    /// A Create: with one token for all attempts, in the session of this run.
    async fn create<T>(
        &mut self,
        request: impl AsyncFn(Api, Option<v1::CreateContext>) -> Result<Response<T>, Status>,
    ) -> Result<T, Away> {
        Ok(self.try_create(request).await?.unwrap_or_else(|problem| panic!("{problem:?}")))
    }

    /// As [`Self::create`], where the agent may refuse.
    async fn try_create<T>(
        &mut self,
        request: impl AsyncFn(Api, Option<v1::CreateContext>) -> Result<Response<T>, Status>,
    ) -> Result<Result<T, Problem>, Away> {
        let client_token = token();
        if self.session.is_none() {
            self.open_session().await?;
        }
        loop {
            let context = v1::CreateContext {
                client_token: client_token.clone(),
                session_id: self.session_id.clone(),
                ..v1::CreateContext::default()
            };
            let made = self.call(async |api| request(api, Some(context.clone())).await).await?;
            let status = match made {
                Ok(made) => return Ok(Ok(made.into_inner())),
                Err(status) => status,
            };
            let problem = problem_from_status(&status);
            if problem.field.as_deref() != Some("context.session_id") {
                return Ok(Err(problem));
            }
            self.open_session().await?;
        }
    }
}
