//! The one way to the agent: settings, a lazy connection, retries, the session, coalesced reads.
//!
//! A resource never sees a channel that may be broken: [`Connection::call`] connects when the first
//! request needs it, retries what the agent could not take just now, and hands back a
//! [`Problem`] that says which stage failed.

pub(crate) mod reads;
mod session;
pub(crate) mod upload;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use weft_model::{Problem, Reason};
use weft_proto::client::{self, Endpoint};
use weft_proto::{problem_from_status, v1};

use reads::Reads;
use session::Session;

/// The first pause between two attempts, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What checks against the live fabric do while planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PlanChecks {
    Off,
    #[default]
    Warning,
    Error,
}

/// The provider's settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `None`: not known before apply; then nothing is asked of the agent.
    pub(crate) endpoint: Option<Endpoint>,
    /// `None`: not known before apply.
    pub(crate) default_tags: Option<BTreeMap<String, String>>,
    pub(crate) plan_checks: PlanChecks,
    /// For one unary request, its retries included.
    pub(crate) request_timeout: Duration,
}

/// Shared by the provider and its resources; holds the connection of the newest configuration.
#[derive(Debug, Default)]
pub(crate) struct Agent(RwLock<Option<Arc<Connection>>>);

impl Agent {
    /// Takes new settings; the session of the former ones, if any, ends in good order (a debugged
    /// provider is configured once for each run of Terraform).
    pub(crate) async fn configure(&self, settings: Settings) {
        let new = Some(Arc::new(Connection::new(settings)));
        let old =
            std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), new);
        if let Some(old) = old {
            old.session.end().await;
        }
    }

    /// The connection that was configured last.
    pub(crate) fn connection(&self) -> Result<Arc<Connection>, Problem> {
        let connection = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        connection.ok_or_else(|| {
            Problem::new(Reason::FailedPrecondition, "the provider is not configured")
        })
    }

    /// The graceful end: everything that was created is in Terraform's state.
    pub(crate) async fn end(&self) {
        if let Ok(connection) = self.connection() {
            connection.session.end().await;
        }
    }
}

/// Settings and everything that hangs on them.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) settings: Settings,
    pub(crate) reads: Reads,
    /// One upload at a time: two images that share a kernel do not send it twice.
    pub(crate) uploads: tokio::sync::Mutex<()>,
    channel: OnceCell<Channel>,
    session: Session,
}

impl Connection {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            reads: Reads::default(),
            uploads: tokio::sync::Mutex::default(),
            channel: OnceCell::new(),
            session: Session::default(),
        }
    }

    /// A channel to the agent; the first one is made here. It connects again by itself.
    pub(crate) async fn channel(&self) -> Result<Channel, Problem> {
        let endpoint = self.settings.endpoint.as_ref().ok_or_else(|| {
            Problem::new(Reason::FailedPrecondition, "the provider's endpoint is not known yet")
                .remedy("use a value for endpoint that is known while planning")
        })?;
        self.channel.get_or_try_init(|| client::connect(endpoint)).await.cloned()
    }

    /// One unary request. It is sent again while the agent, having been reached once, is away; so
    /// `request` has to be one that may be repeated.
    pub(crate) async fn call<T, F>(&self, request: impl Fn(Channel) -> F) -> Result<T, Problem>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let limit = self.settings.request_timeout;
        let deadline = Instant::now() + limit;
        let mut pause = PAUSE_MIN;
        loop {
            let channel = self.channel().await?;
            let status = match tokio::time::timeout_at(deadline, request(channel)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_elapsed) => return Err(self.timed_out(limit)),
            };
            if !is_broken(&status) {
                return Err(problem_from_status(&status));
            }
            if Instant::now() + pause >= deadline {
                return Err(self.explain(&status).await);
            }
            tracing::debug!(%status, "the agent is away, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One Create: with a token that is the same for all attempts, in the session of this run.
    pub(crate) async fn create<T, F>(
        &self,
        tags: BTreeMap<String, String>,
        client_data: String,
        request: impl Fn(Channel, v1::CreateContext) -> F,
    ) -> Result<T, Problem>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let request = &request;
        let context = v1::CreateContext {
            client_token: random_token()?,
            session_id: String::new(),
            tags: tags.into_iter().collect(),
            client_data,
        };
        let attempt = || {
            self.call(|channel| {
                let mut context = context.clone();
                async move {
                    // Asked for anew in each attempt: an agent that was away has lost the session.
                    context.session_id = self.session.id(&channel).await?;
                    request(channel, context).await
                }
            })
        };
        match attempt().await {
            Err(problem) if problem.field.as_deref() == Some("context.session_id") => {
                self.session.forget().await;
                attempt().await
            }
            result => result,
        }
    }

    /// Why the agent does not answer: asked of the socket, which knows the stage.
    pub(crate) async fn explain(&self, status: &Status) -> Problem {
        if let Some(endpoint) = &self.settings.endpoint
            && let Err(problem) = client::connect(endpoint).await
        {
            return problem;
        }
        problem_from_status(status)
    }

    fn timed_out(&self, limit: Duration) -> Problem {
        let endpoint = self
            .settings
            .endpoint
            .as_ref()
            .map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
        Problem::new(
            Reason::DeadlineExceeded,
            format!("the agent{endpoint} did not answer within {} s", limit.as_secs_f32()),
        )
        .remedy("look at the agent's log, or raise the provider's request_timeout")
    }
}

/// Whether the answer says that the connection, and not the request, is at fault.
pub(crate) fn is_broken(status: &Status) -> bool {
    // tonic attaches the transport's error as the source of what it makes up itself.
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

fn random_token() -> Result<String, Problem> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(Reason::Internal, "no randomness for a client token")
            .evidence(error.to_string())
    })?;
    Ok(hex::encode(bytes))
}
