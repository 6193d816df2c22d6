//! The one way to the agent: settings, a lazy connection, retries, the session, coalesced reads.
//!
//! A resource never sees a channel that may be broken: [`Connection::call`] connects when the first
//! request needs it, retries what the agent could not take just now, and hands back a
//! [`Problem`] that says which stage failed.

pub(crate) mod fetch;
pub(crate) mod reads;
mod session;
pub(crate) mod unpack;
pub(crate) mod upload;
pub(crate) mod verdict;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tfplugin::{Diagnostic, Severity};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Response, Status};
use weft_model::{Problem, Reason};
use weft_proto::client::{self, Endpoint};
use weft_proto::{problem_from_status, v1};

use crate::catalog;
use crate::instance::room::PlannedInstances;
use crate::instance::types::PlannedTypes;
use crate::rule::limit::PlannedRules;
use crate::subnet::planned::PlannedNetworks;
use reads::Reads;
use session::Session;
use verdict::{MAX_NOT_NOW, Verdict};

/// The first pause between two attempts, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often one Create may hear that its session is not alive: once for each restart of the agent
/// that comes between opening the session and the request.
const MAX_DEAD_SESSIONS: u32 = 3;

/// What checks against the live fabric do while planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PlanChecks {
    Off,
    #[default]
    Warn,
    Error,
}

impl PlanChecks {
    /// As `plan_checks` has them.
    pub(crate) const WORDS: [&str; 3] = ["off", "warn", "error"];

    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "off" => Some(Self::Off),
            "warn" => Some(Self::Warn),
            "error" => Some(Self::Error),
            _ => None,
        }
    }

    /// `diagnostic` as severe as it is to be; `None` where nothing is to be said.
    pub(crate) fn told(self, mut diagnostic: Diagnostic) -> Option<Diagnostic> {
        diagnostic.severity = match self {
            Self::Off => return None,
            Self::Warn => Severity::Warning,
            Self::Error => Severity::Error,
        };
        Some(diagnostic)
    }
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
    /// Names of images besides those that are built in.
    pub(crate) image_catalog: catalog::Own,
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
            old.end().await;
        }
    }

    /// The connection that was configured last.
    pub(crate) fn connection(&self) -> Result<Arc<Connection>, Problem> {
        let connection = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        connection.ok_or_else(|| {
            Problem::new(Reason::FailedPrecondition, "the provider is not configured")
        })
    }

    /// The connection, where a plan may ask the agent: `plan_checks` is on, and it is known where
    /// the agent is.
    pub(crate) fn asked_in_plans(&self) -> Option<Arc<Connection>> {
        let asks = |settings: &Settings| {
            settings.plan_checks != PlanChecks::Off && settings.endpoint.is_some()
        };
        self.connection().ok().filter(|connection| asks(&connection.settings))
    }

    /// Changes are carried out from now on. The agent was there when they were planned, so one that
    /// this process has not reached yet may be back in a moment.
    pub(crate) fn applies(&self) {
        if let Ok(connection) = self.connection() {
            connection.applying.store(true, Ordering::Relaxed);
        }
    }

    /// The graceful end: everything that was created is in Terraform's state.
    pub(crate) async fn end(&self) {
        if let Ok(connection) = self.connection() {
            connection.end().await;
        }
    }
}

/// Settings and everything that hangs on them.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) settings: Settings,
    pub(crate) reads: Reads,
    /// One image's files at a time: two that share a kernel do not send it twice.
    pub(crate) uploads: tokio::sync::Mutex<()>,
    pub(crate) planned_types: PlannedTypes,
    pub(crate) planned_networks: PlannedNetworks,
    pub(crate) planned_rules: PlannedRules,
    pub(crate) planned_instances: PlannedInstances,
    channel: OnceCell<Channel>,
    applying: AtomicBool,
    session: Session,
    /// Creates of which nobody knows here whether they made something.
    unsettled: AtomicU64,
}

impl Connection {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            reads: Reads::default(),
            uploads: tokio::sync::Mutex::default(),
            planned_types: PlannedTypes::default(),
            planned_networks: PlannedNetworks::default(),
            planned_rules: PlannedRules::default(),
            planned_instances: PlannedInstances::default(),
            channel: OnceCell::new(),
            applying: AtomicBool::new(false),
            session: Session::default(),
            unsettled: AtomicU64::new(0),
        }
    }

    /// Whether a change has been carried out, or is about to be: a plan that is asked for then is made
    /// once more, with what is known by now.
    pub(crate) fn is_applying(&self) -> bool {
        self.applying.load(Ordering::Relaxed)
    }

    /// A channel to the agent; the first one is made here. It connects again by itself.
    pub(crate) async fn channel(&self) -> Result<Channel, Problem> {
        let endpoint = self.settings.endpoint.as_ref().ok_or_else(|| {
            Problem::new(
                Reason::FailedPrecondition,
                "the provider's endpoint or certificates are not known yet",
            )
            .remedy("use values for them that are known while planning")
        })?;
        self.channel.get_or_try_init(|| client::connect(endpoint)).await.cloned()
    }

    /// [`Self::channel`], waited for until `by` where the agent is expected to be back.
    async fn reached(&self, by: Instant) -> Result<Channel, Problem> {
        let mut pause = PAUSE_MIN;
        loop {
            let problem = match self.channel().await {
                Ok(channel) => return Ok(channel),
                Err(problem) => problem,
            };
            let next = Instant::now() + pause;
            let is_away = problem.reason == Reason::Unavailable;
            if !is_away || !self.is_applying() || next >= by {
                return Err(problem);
            }
            tracing::debug!(%problem, "trying again");
            tokio::time::sleep_until(next).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One unary request. It is sent again while the agent is away, which was reached once or was
    /// there for the plan that is applied, and a few times where it cannot take it; so `request` has
    /// to be one that may be repeated.
    pub(crate) async fn call<T, F>(&self, request: impl Fn(Channel) -> F) -> Result<T, Problem>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_within(self.settings.request_timeout, request).await
    }

    /// A [`Self::call`] whose answer may take up to `limit`. An agent that is away is waited for no
    /// longer than usual.
    pub(crate) async fn call_within<T, F>(
        &self,
        limit: Duration,
        request: impl Fn(Channel) -> F,
    ) -> Result<T, Problem>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let begun = Instant::now();
        let deadline = begun + limit;
        let mut pause = PAUSE_MIN;
        let (mut back_by, mut not_now) = (None, 0);
        loop {
            let channel = self.reached(deadline.min(begun + self.settings.request_timeout)).await?;
            let status = match tokio::time::timeout_at(deadline, request(channel)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_elapsed) => return Err(self.timed_out(limit)),
            };
            let next = Instant::now() + pause;
            match Verdict::of(&status) {
                Verdict::Away => {
                    let patience = Instant::now() + self.settings.request_timeout;
                    let back_by = *back_by.get_or_insert(patience);
                    if next >= deadline.min(back_by) {
                        return Err(self.explain(&status).await);
                    }
                }
                Verdict::NotNow if not_now < MAX_NOT_NOW && next < deadline => not_now += 1,
                Verdict::NotNow | Verdict::Refused => return Err(problem_from_status(&status)),
            }
            tracing::debug!(%status, "trying again");
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
        let context = v1::CreateContext {
            client_token: random_token()?,
            session_id: String::new(),
            tags: tags.into_iter().collect(),
            client_data,
        };
        // Until there is an answer, also where this future is dropped.
        self.unsettled.fetch_add(1, Ordering::Relaxed);
        let (request, used) = (&request, &AtomicU64::new(0));
        let mut dead = 0;
        loop {
            let made = self
                .call(|channel| {
                    let mut context = context.clone();
                    async move {
                        // Asked for in each attempt: an agent that was away does not know the
                        // session any more until it is opened again.
                        let session = self.session.alive(&channel).await?;
                        used.store(session.stream, Ordering::Relaxed);
                        context.session_id = session.id;
                        request(channel, context).await
                    }
                })
                .await;
            match made {
                Err(problem)
                    if problem.field.as_deref() == Some("context.session_id")
                        && dead < MAX_DEAD_SESSIONS =>
                {
                    dead += 1;
                    self.session.refused(used.load(Ordering::Relaxed)).await;
                }
                result => {
                    if result.as_ref().err().is_none_or(is_refusal) {
                        self.unsettled.fetch_sub(1, Ordering::Relaxed);
                    }
                    return result;
                }
            }
        }
    }

    /// Ends the session, if there is one. What a Create has made that got no answer is in no state: then
    /// the session is left to die, so that a later run adopts what nobody has read by then.
    async fn end(&self) {
        if self.unsettled.load(Ordering::Relaxed) > 0 {
            tracing::warn!("a Create got no answer: the session does not end in good order");
            return;
        }
        if let Some(channel) = self.channel.get() {
            self.session.end(channel).await;
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

/// Whether a Create that failed so has made nothing: the agent says what is wrong with it.
fn is_refusal(problem: &Problem) -> bool {
    let is_unknown =
        matches!(problem.reason, Reason::DeadlineExceeded | Reason::Unavailable | Reason::Internal);
    // An agent that was started again says so before it looks for what an earlier attempt has made.
    !is_unknown && problem.field.as_deref() != Some("context.session_id")
}

pub(crate) fn random_token() -> Result<String, Problem> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(Reason::Internal, "no randomness for a client token")
            .evidence(error.to_string())
    })?;
    Ok(hex::encode(bytes))
}
