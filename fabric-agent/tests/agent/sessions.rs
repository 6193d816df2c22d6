//! What a dead client left is adopted by the next one that wants the same, once.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use v1::session_event::Event;
use v1::session_request::Request;
use weft_proto::v1;

use weft_model::Reason;

use crate::support::{
    Agent, Api, PUBLIC_KEY, eventually, image_spec, instance_spec, ok, refused, token, type_spec,
};

/// A client's run.
struct Session {
    id: String,
    api: Api,
    requests: mpsc::Sender<v1::SessionRequest>,
    events: tonic::Streaming<v1::SessionEvent>,
}

impl Session {
    async fn open(agent: &Agent) -> Self {
        Self::open_again(agent, "").await
    }

    /// The session with this id, after its stream broke.
    async fn open_again(agent: &Agent, session_id: &str) -> Self {
        let api = agent.api().await;
        let (requests, receiver) = mpsc::channel(4);
        let (client, session_id) = ("test".to_owned(), session_id.to_owned());
        let hello = Request::Hello(v1::SessionHello { client, session_id });
        requests.send(v1::SessionRequest { request: Some(hello) }).await.unwrap();
        let mut events = ok(api.sessions.clone().open(ReceiverStream::new(receiver)).await);
        let event = events.message().await.unwrap().unwrap().event.unwrap();
        let Event::Opened(opened) = event else { panic!("{event:?}") };
        Self { id: opened.session_id, api, requests, events }
    }

    /// The graceful end.
    async fn end(mut self) {
        let end = Request::End(v1::SessionEnd {});
        self.requests.send(v1::SessionRequest { request: Some(end) }).await.unwrap();
        let event = self.events.message().await.unwrap().unwrap().event.unwrap();
        assert!(matches!(event, Event::Ended(_)), "{event:?}");
    }

    fn context(&self) -> Option<v1::CreateContext> {
        let session_id = self.id.clone();
        Some(v1::CreateContext { client_token: token(), session_id, ..Default::default() })
    }

    async fn create(&self, spec: v1::InstanceSpec) -> v1::Instance {
        let request = v1::CreateInstanceRequest { context: self.context(), spec: Some(spec) };
        ok(self.api.instances.clone().create(request).await)
    }

    /// An image with `content`, as if captured from the instance.
    async fn image_of(&self, name: &str, instance: &str, content: &[u8]) -> String {
        self.api.upload(content).await.unwrap();
        let captured_from = Some(instance.to_owned());
        let spec = image_spec(name, content).map(|spec| v1::ImageSpec { captured_from, ..spec });
        let request = v1::CreateImageRequest { context: self.context(), spec };
        ok(self.api.images.clone().create(request).await).metadata.unwrap().id
    }

    async fn key_pair(&self, name: &str) -> Result<v1::KeyPair, tonic::Status> {
        let (key_name, public_key) = (name.to_owned(), PUBLIC_KEY.to_owned());
        let spec = Some(v1::KeyPairSpec { key_name, public_key });
        let request = v1::CreateKeyPairRequest { context: self.context(), spec };
        Ok(self.api.key_pairs.clone().create(request).await?.into_inner())
    }

    /// Dies without a word; returns when the agent has noticed: a key pair, whose name nobody else
    /// can take while the session lives, is adopted.
    async fn die(self, agent: &Agent) {
        self.key_pair(&self.id).await.unwrap();
        let id = self.id.clone();
        drop(self);
        let heir = Session::open(agent).await;
        eventually("the session is dead", async || heir.key_pair(&id).await.ok()).await;
    }
}

fn id(instance: &v1::Instance) -> &str {
    &instance.metadata.as_ref().unwrap().id
}

#[tokio::test]
async fn what_a_dead_session_made_is_adopted_one_for_each_create_of_the_same() {
    let agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    let first = Session::open(&agent).await;
    let spec = instance_spec("web", &image);
    let left = [first.create(spec.clone()).await, first.create(spec.clone()).await];
    assert!(!left[0].metadata.as_ref().unwrap().claimed);
    // While it lives, nobody takes what is its own.
    let second = Session::open(&agent).await;
    let own = second.create(spec.clone()).await;
    assert!(left.iter().all(|instance| id(instance) != id(&own)));
    first.die(&agent).await;

    let other = second.create(instance_spec("db", &image)).await;
    assert!(left.iter().all(|instance| id(instance) != id(&other)), "other content");
    let mut adopted = [second.create(spec.clone()).await, second.create(spec.clone()).await]
        .map(|instance| id(&instance).to_owned());
    let mut expected = left.map(|instance| id(&instance).to_owned());
    adopted.sort();
    expected.sort();
    assert_eq!(adopted, expected);
    let fresh = second.create(spec).await;
    assert!(!adopted.contains(&id(&fresh).to_owned()), "each is adopted once");
}

/// A snapshot is of a moment: whoever asks again means another one.
#[tokio::test]
async fn a_snapshot_that_a_dead_session_took_gives_way_to_the_one_that_is_asked_for_again() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let web = api.running("web", &api.image_id().await).await.metadata.unwrap().id;
    let snapshot = async |session: &Session| {
        let spec = v1::SnapshotSpec { instance_id: web.clone(), ..v1::SnapshotSpec::default() };
        let request = v1::CreateSnapshotRequest { context: session.context(), spec: Some(spec) };
        let made = ok(session.api.snapshots.clone().create(request).await).metadata.unwrap().id;
        let get = v1::GetRequest { id: made.clone(), claim: false };
        eventually("it is settled", async || {
            let now = ok(session.api.snapshots.clone().get(get.clone()).await);
            (now.state != "pending").then_some(())
        })
        .await;
        made
    };
    let all = async || {
        let listed = ok(api.snapshots.clone().list(v1::ListRequest::default()).await);
        let mut ids: Vec<String> =
            listed.items.into_iter().map(|one| one.metadata.unwrap().id).collect();
        ids.sort();
        ids
    };
    let first = Session::open(&agent).await;
    let left = snapshot(&first).await;
    let second = Session::open(&agent).await;
    let beside = snapshot(&second).await;
    first.die(&agent).await;

    let fresh = snapshot(&second).await;
    assert!(fresh != left && fresh != beside, "an old moment was taken for now");
    let mut stay = vec![beside, fresh];
    stay.sort();
    assert_eq!(all().await, stay, "what the dead session took is left");
}

#[tokio::test]
async fn an_instance_type_of_a_dead_session_is_adopted_by_the_same_and_its_end_claims_it() {
    let agent = Agent::start().await;
    let create = async |session: &Session, memory_mib: u32| {
        let spec = Some(type_spec("c1.big", 2, memory_mib));
        let request = v1::CreateInstanceTypeRequest { context: session.context(), spec };
        session.api.types.clone().create(request).await
    };
    let first = Session::open(&agent).await;
    let left = ok(create(&first, 300).await).metadata.unwrap();
    assert!(!left.claimed);
    first.die(&agent).await;
    let second = Session::open(&agent).await;
    refused(create(&second, 301).await, Reason::AlreadyExists, "name");
    assert_eq!(ok(create(&second, 300).await).metadata.unwrap().id, left.id);
    let api = agent.api().await;
    second.end().await;
    let get = v1::GetRequest { id: left.id, claim: false };
    assert!(ok(api.types.clone().get(get).await).metadata.unwrap().claimed);
}

#[tokio::test]
async fn twenty_creates_at_once_adopt_one_orphan_once() {
    let agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    let first = Session::open(&agent).await;
    let spec = instance_spec("web", &image);
    let left = first.create(spec.clone()).await;
    first.die(&agent).await;
    let second = Session::open(&agent).await;
    let made = futures::future::join_all((0..20).map(|_| second.create(spec.clone()))).await;
    assert_eq!(made.iter().filter(|instance| id(instance) == id(&left)).count(), 1);
    assert_eq!(agent.api().await.list().await.len(), 20);
}

#[tokio::test]
async fn a_restart_of_the_agent_is_the_death_of_every_session() {
    let mut agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    let first = Session::open(&agent).await;
    let spec = instance_spec("web", &image);
    let left = first.create(spec.clone()).await;
    agent.kill();
    agent.start_again().await;
    let second = Session::open(&agent).await;
    assert_eq!(id(&second.create(spec).await), id(&left));
}

#[tokio::test]
async fn what_a_client_has_read_or_ended_with_is_its_own_for_good() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let spec = |name: &str| instance_spec(name, &image);

    let first = Session::open(&agent).await;
    let read = first.create(spec("read")).await;
    let request = v1::GetRequest { id: id(&read).to_owned(), claim: true };
    assert!(ok(api.instances.clone().get(request).await).metadata.unwrap().claimed);
    let listed = first.create(spec("listed")).await;
    let request = v1::BatchGetRequest { ids: vec![id(&listed).to_owned()], claim: true };
    assert!(
        ok(api.instances.clone().batch_get(request).await).items[0]
            .metadata
            .as_ref()
            .unwrap()
            .claimed
    );
    let looked_at = first.create(spec("looked at")).await;
    assert!(!api.instance(id(&looked_at)).await.metadata.unwrap().claimed, "only looked at");
    first.die(&agent).await;

    let second = Session::open(&agent).await;
    let ended = second.create(spec("ended")).await;
    second.end().await;
    assert!(api.instance(id(&ended)).await.metadata.unwrap().claimed);

    let third = Session::open(&agent).await;
    assert_ne!(id(&third.create(spec("read")).await), id(&read));
    assert_ne!(id(&third.create(spec("listed")).await), id(&listed));
    assert_ne!(id(&third.create(spec("ended")).await), id(&ended));
    assert_eq!(id(&third.create(spec("looked at")).await), id(&looked_at));
}

#[tokio::test]
async fn an_orphan_that_is_being_deleted_is_not_adopted() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let first = Session::open(&agent).await;
    // Takes its time to go.
    let spec = instance_spec("sim-no-acpi", &image);
    let left = first.create(spec.clone()).await;
    first.die(&agent).await;
    api.delete(id(&left)).await;
    let second = Session::open(&agent).await;
    assert_ne!(id(&second.create(spec).await), id(&left));
}

#[tokio::test]
async fn a_session_goes_on_after_a_restart_of_the_agent_and_takes_nothing_of_its_own_twice() {
    let mut agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    let spec = instance_spec("web", &image);
    let session = Session::open(&agent).await;
    let first = session.create(spec.clone()).await;
    let session_id = session.id.clone();
    agent.kill();
    agent.start_again().await;

    let api = agent.api().await;
    let context = v1::CreateContext {
        client_token: token(),
        session_id: session_id.clone(),
        ..Default::default()
    };
    let request = v1::CreateInstanceRequest { context: Some(context), spec: Some(spec.clone()) };
    let answer = api.instances.clone().create(request.clone()).await;
    refused(answer, Reason::FailedPrecondition, "context.session_id");

    let again = Session::open_again(&agent, &session_id).await;
    assert_eq!(again.id, session_id);
    let second = ok(api.instances.clone().create(request).await);
    assert_ne!(id(&first), id(&second), "two resources, two instances");
    assert_ne!(id(&again.create(spec).await), id(&first));
}

#[tokio::test]
async fn a_late_retry_does_not_find_what_somebody_else_has_adopted() {
    let agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    let spec = instance_spec("web", &image);
    let first = Session::open(&agent).await;
    let late = v1::CreateInstanceRequest { context: first.context(), spec: Some(spec.clone()) };
    let left = ok(first.api.instances.clone().create(late.clone()).await);
    let first_id = first.id.clone();
    first.die(&agent).await;
    let heir = Session::open(&agent).await;
    assert_eq!(id(&heir.create(spec).await), id(&left));

    let again = Session::open_again(&agent, &first_id).await;
    let retried = ok(again.api.instances.clone().create(late).await);
    assert_ne!(id(&retried), id(&left));
}

#[tokio::test]
async fn what_a_dead_session_made_of_an_instance_goes_when_that_is_captured_again() {
    let agent = Agent::start().await;
    let (one, other) = ("i-0123456789abcdef0", "i-0123456789abcdef1");
    let first = Session::open(&agent).await;
    // No two disks are alike: no content tells that they mean the same.
    first.image_of("mine", one, &[1; 512]).await;
    first.image_of("mine", one, &[2; 512]).await;
    let another_name = first.image_of("other", one, &[3; 512]).await;
    let of_another = first.image_of("mine", other, &[4; 512]).await;
    let read = first.image_of("mine", one, &[5; 512]).await;
    let get = v1::GetRequest { id: read.clone(), claim: true };
    ok(first.api.images.clone().get(get).await);
    // While it lives, nobody takes what is its own.
    let second = Session::open(&agent).await;
    second.image_of("mine", one, &[6; 512]).await;
    let images = async || {
        let all = ok(second.api.images.clone().list(v1::ListRequest::default()).await).items;
        let ids = all.into_iter().map(|image| image.metadata.unwrap().id);
        ids.collect::<std::collections::BTreeSet<_>>()
    };
    let before = images().await;
    assert_eq!(before.len(), 6);
    first.die(&agent).await;
    let again = second.image_of("mine", one, &[7; 512]).await;
    let after = images().await;
    assert_eq!(after.len(), 5, "{after:?}");
    assert!([another_name, of_another, read, again].iter().all(|id| after.contains(id)));
}
