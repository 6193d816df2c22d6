//! A client like Terraform with its provider: it knows what it was answered, and repeats what it
//! was not.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status};
use v1::session_request::Request;
use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::{problem_from_status, v1};

use crate::support::{
    Agent, Api, PUBLIC_KEY, image_spec, instance_spec, rule_spec, sha256_of, token,
};

/// How far a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There was no agent yet.
    NotStarted,
    /// There is nothing of it.
    Absent,
    /// Image, key, group, rule and a running instance.
    Made,
    /// All have other names or tags.
    Renamed,
    /// The instance has another type.
    Resized,
    /// The instance is stopped.
    Stopped,
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

/// What a client was answered, as in Terraform's state.
#[derive(Clone, Debug, Default)]
struct State {
    image: Option<String>,
    key: Option<String>,
    group: Option<String>,
    rule: Option<String>,
    instance: Option<String>,
}

/// One run of a client.
#[derive(Debug)]
pub(super) struct Client {
    socket: String,
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

const DISK: &[u8] = &[7; 4096];
const NOT_YET: Duration = Duration::from_millis(5);

/// Whether nobody has answered: as the provider judges (`provider/src/agent/verdict.rs`).
fn is_away(status: &Status) -> bool {
    let made_up = std::error::Error::source(status).is_some();
    status.details().is_empty() && (status.code() == Code::Unavailable || made_up)
}

impl Client {
    pub(super) fn new(agent: &Agent) -> Self {
        Self {
            socket: format!("unix://{}", agent.socket().display()),
            patience: Patience::Waits,
            state: State::default(),
            api: None,
            session: None,
            session_id: String::new(),
        }
    }

    /// The next run of the client, which knows what this one was answered.
    pub(super) fn again(&self, agent: &Agent, patience: Patience) -> Self {
        Self { patience, state: self.state.clone(), ..Self::new(agent) }
    }

    pub(super) fn instance(&self) -> Option<&str> {
        self.state.instance.as_deref()
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
                Ok(made) => return Ok(made.into_inner()),
                Err(status) => status,
            };
            let problem = problem_from_status(&status);
            assert_eq!(problem.field.as_deref(), Some("context.session_id"), "{problem:?}");
            self.open_session().await?;
        }
    }

    /// Brings the module to a stage, from whatever it is at.
    pub(super) async fn reach(&mut self, stage: Stage) -> Result<(), Away> {
        match stage {
            Stage::NotStarted => Ok(()),
            Stage::Absent => self.destroy().await,
            stage => {
                self.make().await?;
                self.update(stage).await
            }
        }
    }

    async fn make(&mut self) -> Result<(), Away> {
        if self.state.image.is_none() {
            self.upload().await?;
            let made = self.create(async |api, context| {
                let spec = image_spec("it", DISK);
                api.images.clone().create(v1::CreateImageRequest { context, spec }).await
            });
            self.state.image = Some(made.await?.metadata.unwrap().id);
        }
        if self.state.key.is_none() {
            let made = self.create(async |api, context| {
                let (key_name, public_key) = ("it".to_owned(), PUBLIC_KEY.to_owned());
                let spec = Some(v1::KeyPairSpec { key_name, public_key });
                api.key_pairs.clone().create(v1::CreateKeyPairRequest { context, spec }).await
            });
            self.state.key = Some(made.await?.metadata.unwrap().id);
        }
        if self.state.group.is_none() {
            let made = self.create(async |api, context| {
                let spec =
                    Some(v1::SecurityGroupSpec { name: "it".to_owned(), ..Default::default() });
                api.groups.clone().create(v1::CreateSecurityGroupRequest { context, spec }).await
            });
            self.state.group = Some(made.await?.metadata.unwrap().id);
        }
        let group = self.state.group.clone().unwrap();
        if self.state.rule.is_none() {
            let made = self.create(async |api, context| {
                let spec = Some(rule_spec(&group, 22));
                let request = v1::CreateSecurityGroupRuleRequest { context, spec };
                api.rules.clone().create(request).await
            });
            self.state.rule = Some(made.await?.metadata.unwrap().id);
        }
        if self.state.instance.is_none() {
            let spec = self.spec(Stage::Made);
            let made = self.create(async |api, context| {
                let spec = Some(spec.clone());
                api.instances.clone().create(v1::CreateInstanceRequest { context, spec }).await
            });
            self.state.instance = Some(made.await?.metadata.unwrap().id);
        }
        Ok(())
    }

    fn spec(&self, stage: Stage) -> v1::InstanceSpec {
        let image = self.state.image.as_deref().unwrap_or_default();
        let name = if stage == Stage::Renamed { "renamed" } else { "it" };
        let mut spec = instance_spec(name, image);
        let ids = self.state.group.clone().into_iter().collect();
        spec.security_group_ids = Some(v1::SecurityGroupIds { ids });
        spec.key_names = vec!["it".to_owned()];
        let stopped = stage == Stage::Stopped;
        spec.power_state = Some(if stopped { "stopped" } else { "running" }.to_owned());
        if stage == Stage::Resized {
            spec.instance_type = Some("w1.micro".to_owned());
        }
        spec
    }

    async fn upload(&mut self) -> Result<(), Away> {
        let (sha256, size_bytes) = (sha256_of(DISK), DISK.len() as u64);
        loop {
            let begin = v1::BeginUploadRequest { sha256: sha256.clone(), size_bytes };
            let begun =
                self.ask(async |api| api.images.clone().begin_upload(begin.clone()).await).await?;
            if begun.complete {
                return Ok(());
            }
            // In two parts, so that there is a middle.
            let at = |offset: u64| v1::UploadRequest {
                sha256: sha256.clone(),
                size_bytes,
                offset_bytes: offset,
                data: match offset {
                    0 => DISK[..1000].to_vec(),
                    _ => DISK[usize::try_from(offset).unwrap()..].to_vec(),
                },
            };
            let parts = match begun.offset_bytes {
                0 => vec![at(0), at(1000)],
                offset => vec![at(offset)],
            };
            let api = self.api().await;
            match api.images.clone().upload(futures::stream::iter(parts)).await {
                Ok(_) => return Ok(()),
                Err(_) if self.patience == Patience::Waits => tokio::time::sleep(NOT_YET).await,
                Err(_) => return Err(Away),
            }
        }
    }

    async fn update(&mut self, stage: Stage) -> Result<(), Away> {
        let (id, spec) = (self.state.instance.clone().unwrap(), self.spec(stage));
        let mut known = self.read_instance().await?;
        loop {
            let metadata = known.metadata.clone().unwrap();
            let context = Some(v1::UpdateContext {
                id: id.clone(),
                expected_generation: metadata.generation,
                ..v1::UpdateContext::default()
            });
            let request = v1::UpdateInstanceRequest { context, spec: Some(spec.clone()) };
            let answer =
                self.call(async |api| api.instances.clone().update(request.clone()).await).await?;
            match answer {
                Ok(_) => break,
                // An answer that was lost: look again, as the provider does.
                Err(status) => {
                    let problem = problem_from_status(&status);
                    assert_eq!(problem.reason, Reason::StaleGeneration, "{problem:?}");
                    known = self.read_instance().await?;
                }
            }
        }
        if stage == Stage::Renamed {
            self.rename_group().await?;
        }
        let until = match stage {
            Stage::Stopped => Until::Stopped(true),
            _ => Until::WaitFor("ssh".to_owned()),
        };
        self.wait(&id, until).await
    }

    async fn rename_group(&mut self) -> Result<(), Away> {
        let id = self.state.group.clone().unwrap();
        let context = v1::UpdateContext { id, ..v1::UpdateContext::default() };
        let spec = v1::SecurityGroupSpec { name: "renamed".to_owned(), ..Default::default() };
        let request = v1::UpdateSecurityGroupRequest { context: Some(context), spec: Some(spec) };
        self.ask(async |api| api.groups.clone().update(request.clone()).await).await.map(drop)
    }

    async fn read_instance(&mut self) -> Result<v1::Instance, Away> {
        let id = self.state.instance.clone().unwrap();
        let get = v1::GetRequest { id, claim: true };
        self.ask(async |api| api.instances.clone().get(get.clone()).await).await
    }

    async fn wait(&mut self, id: &str, until: Until) -> Result<(), Away> {
        let request =
            v1::WaitRequest { id: id.to_owned(), until: Some(until), timeout_seconds: 60 };
        let waited = self
            .call(async |api| {
                let mut events = api.instances.clone().wait(request.clone()).await?.into_inner();
                while events.message().await?.is_some() {}
                Ok(())
            })
            .await?;
        waited.unwrap_or_else(|status| panic!("{:?}", problem_from_status(&status)));
        Ok(())
    }

    /// Deletes in the order of the references; what is gone already is fine.
    async fn destroy(&mut self) -> Result<(), Away> {
        if let Some(id) = self.state.instance.clone() {
            self.delete(&id, async |api, it| api.instances.clone().delete(it).await).await?;
            self.wait(&id, Until::Gone(true)).await?;
            self.state.instance = None;
        }
        if let Some(id) = self.state.rule.clone() {
            self.delete(&id, async |api, it| api.rules.clone().delete(it).await).await?;
            self.state.rule = None;
        }
        if let Some(id) = self.state.group.clone() {
            self.delete(&id, async |api, it| api.groups.clone().delete(it).await).await?;
            self.state.group = None;
        }
        if let Some(id) = self.state.key.clone() {
            self.delete(&id, async |api, it| api.key_pairs.clone().delete(it).await).await?;
            self.state.key = None;
        }
        if let Some(id) = self.state.image.clone() {
            self.delete(&id, async |api, it| api.images.clone().delete(it).await).await?;
            self.state.image = None;
        }
        Ok(())
    }

    async fn delete(
        &mut self,
        id: &str,
        request: impl AsyncFn(Api, v1::DeleteRequest) -> Result<Response<v1::DeleteResponse>, Status>,
    ) -> Result<(), Away> {
        let delete = v1::DeleteRequest { id: id.to_owned() };
        match self.call(async |api| request(api, delete.clone()).await).await? {
            Ok(_) => Ok(()),
            Err(status) => {
                let problem = problem_from_status(&status);
                assert_eq!(problem.reason, Reason::NotFound, "{problem:?}");
                Ok(())
            }
        }
    }
}
