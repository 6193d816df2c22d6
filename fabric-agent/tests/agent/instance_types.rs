//! Instance types: unique names, and instances that keep their sizes.

use v1::wait_request::Until;
use weft_model::{BUILT_IN_TYPES, Reason};
use weft_proto::v1;

use crate::support::{Agent, Api, instance_spec, ok, refusal, refused, type_spec, update_context};

fn spec_of(name: &str, image: &str, kind: &str) -> v1::InstanceSpec {
    v1::InstanceSpec { instance_type: Some(kind.to_owned()), ..instance_spec(name, image) }
}

fn size(instance: &v1::Instance) -> (u32, u32) {
    let assigned = instance.assigned.as_ref().unwrap();
    (assigned.vcpus, assigned.memory_mib)
}

async fn names(api: &Api, request: v1::ListRequest) -> Vec<String> {
    let items = ok(api.types.clone().list(request).await).items;
    items.into_iter().map(|kind| kind.spec.unwrap().name).collect()
}

async fn remove(api: &Api, id: &str) {
    ok(api.types.clone().delete(v1::DeleteRequest { id: id.to_owned() }).await);
}

async fn update(
    api: &Api,
    instance: &v1::Instance,
    spec: v1::InstanceSpec,
) -> Result<tonic::Response<v1::Instance>, tonic::Status> {
    let context = update_context(instance.metadata.as_ref());
    let request = v1::UpdateInstanceRequest { context, spec: Some(spec) };
    api.instances.clone().update(request).await
}

#[tokio::test]
async fn a_name_is_taken_once_and_free_again_after_the_delete() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let made = ok(api.instance_type(type_spec("c1.big", 2, 300)).await);
    let id = made.metadata.unwrap().id;
    assert!(id.starts_with("type-"), "{id}");
    let message =
        refused(api.instance_type(type_spec("c1.big", 1, 64)).await, Reason::AlreadyExists, "name");
    assert!(message.contains("c1.big"), "{message}");
    remove(&api, &id).await;
    ok(api.instance_type(type_spec("c1.big", 1, 64)).await);
    refused(api.instance_type(type_spec("w1.nano", 1, 64)).await, Reason::InvalidArgument, "name");
}

#[tokio::test]
async fn twenty_creates_at_once_of_one_name_make_one() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let creates = (0..20).map(|_| api.instance_type(type_spec("c1.big", 2, 300)));
    let (made, refused): (Vec<_>, Vec<_>) =
        futures::future::join_all(creates).await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for answer in refused {
        let problem = refusal(answer);
        assert_eq!(problem.reason, Reason::AlreadyExists, "{problem}");
    }
    let named = v1::ListRequest { name: "c1.big".to_owned(), ..Default::default() };
    assert_eq!(names(&api, named).await, ["c1.big"]);
}

#[tokio::test]
async fn a_list_has_those_built_in_and_ones_own_from_small_to_large() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let tags = [("team".to_owned(), "kernel".to_owned())];
    let context = v1::CreateContext {
        client_token: "tagged".to_owned(),
        tags: tags.clone().into(),
        ..Default::default()
    };
    let spec = Some(type_spec("c1.odd", 1, 300));
    let request = v1::CreateInstanceTypeRequest { context: Some(context), spec };
    let id = ok(api.types.clone().create(request).await).metadata.unwrap().id;
    ok(api.instance_type(type_spec("a1.same", 1, 512)).await);

    let all = ok(api.types.clone().list(v1::ListRequest::default()).await).items;
    assert_eq!(all.len(), BUILT_IN_TYPES.len() + 2);
    assert_eq!(all.iter().filter(|kind| kind.metadata.is_none()).count(), BUILT_IN_TYPES.len());
    let listed = names(&api, v1::ListRequest::default()).await;
    let smallest = ["w1.nano", "w1.micro", "c1.odd", "a1.same", "w1.small", "w1.medium"];
    assert_eq!(listed[..6], smallest);
    let by_name = |name: &str| v1::ListRequest { name: name.to_owned(), ..Default::default() };
    assert_eq!(names(&api, by_name("w1.large")).await, ["w1.large"]);
    assert_eq!(names(&api, by_name("nothing")).await, [""; 0]);
    let tagged = v1::ListRequest { tags: tags.into(), ..Default::default() };
    assert_eq!(names(&api, tagged).await, ["c1.odd"]);
    let got = v1::GetRequest { id, claim: false };
    assert_eq!(ok(api.types.clone().get(got).await).spec.unwrap().memory_mib, 300);
}

#[tokio::test]
async fn tags_change_live_and_nothing_else_can() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let made = ok(api.instance_type(type_spec("c1.big", 2, 300)).await);
    let mut context = update_context(made.metadata.as_ref()).unwrap();
    context.tags.insert("a".to_owned(), "b".to_owned());
    let request = v1::UpdateInstanceTypeRequest { context: Some(context), spec: made.spec };
    let tagged = ok(api.types.clone().update(request).await);
    assert_eq!(tagged.metadata.as_ref().unwrap().tags["a"], "b");
    for (spec, field) in [
        (type_spec("c1.bigger", 2, 300), "name"),
        (type_spec("c1.big", 3, 300), "vcpus"),
        (type_spec("c1.big", 2, 301), "memory_mib"),
    ] {
        let context = update_context(tagged.metadata.as_ref());
        let request = v1::UpdateInstanceTypeRequest { context, spec: Some(spec) };
        refused(api.types.clone().update(request).await, Reason::InvalidArgument, field);
    }
}

#[tokio::test]
async fn an_instance_keeps_its_size_when_its_type_is_replaced_and_when_it_is_deleted() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let first = ok(api.instance_type(type_spec("c1.big", 2, 300)).await).metadata.unwrap().id;
    let spec = spec_of("web", &image, "c1.big");
    let made = ok(api.create(spec.clone()).await);
    assert_eq!(size(&made), (2, 300));
    assert_eq!(made.spec.as_ref().unwrap().instance_type.as_deref(), Some("c1.big"));
    let id = made.metadata.unwrap().id;
    api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();

    // Another type of the same name: the instance is told apart from it by nothing, and stays.
    remove(&api, &first).await;
    let second = ok(api.instance_type(type_spec("c1.big", 4, 500)).await).metadata.unwrap().id;
    let renamed = v1::InstanceSpec { name: Some("renamed".to_owned()), ..spec.clone() };
    let kept = ok(update(&api, &api.instance(&id).await, renamed).await);
    assert_eq!((size(&kept), kept.assigned.as_ref().unwrap().run_epoch), ((2, 300), 1));
    assert_eq!(size(&ok(api.create(spec.clone()).await)), (4, 500), "a new one has the new size");

    // None at all.
    remove(&api, &second).await;
    let kept = ok(update(&api, &kept, spec.clone()).await);
    assert_eq!(size(&kept), (2, 300));
    refused(api.create(spec).await, Reason::NotFound, "instance_type");
}

#[tokio::test]
async fn another_type_of_ones_own_restarts_the_guest_with_its_size() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let before = api.running("web", &image).await;
    ok(api.instance_type(type_spec("c1.big", 2, 300)).await);
    let larger = ok(update(&api, &before, spec_of("web", &image, "c1.big")).await);
    assert_eq!((size(&larger), larger.assigned.as_ref().unwrap().run_epoch), ((2, 300), 2));
    let message = refused(
        update(&api, &larger, spec_of("web", &image, "c1.bgi")).await,
        Reason::NotFound,
        "instance_type",
    );
    assert!(message.contains("c1.bgi"), "{message}");
}

#[tokio::test]
async fn a_type_of_the_same_size_with_another_limit_restarts_nobody() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    for (name, network_mbps) in [("c1.slow", Some(10)), ("c1.fast", Some(1000))] {
        let spec = v1::InstanceTypeSpec { network_mbps, ..type_spec(name, 2, 300) };
        let made = ok(api.instance_type(spec).await);
        assert_eq!(made.spec.unwrap().network_mbps, network_mbps);
    }
    let made = ok(api.create(spec_of("web", &image, "c1.slow")).await);
    let id = made.metadata.unwrap().id;
    api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();
    let before = api.instance(&id).await;
    let faster = ok(update(&api, &before, spec_of("web", &image, "c1.fast")).await);
    assert_eq!((size(&faster), faster.assigned.as_ref().unwrap().run_epoch), ((2, 300), 1));

    let wrong = v1::InstanceTypeSpec { network_mbps: Some(0), ..type_spec("c1.none", 1, 100) };
    refused(api.instance_type(wrong).await, Reason::InvalidArgument, "network_mbps");
}

#[tokio::test]
async fn an_unknown_type_is_refused_with_the_nearest_names() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    ok(api.instance_type(type_spec("gpu.huge", 2, 300)).await);
    for (asked, nearest) in [("gpu.hug", "gpu.huge"), ("w1.nanno", "w1.nano")] {
        let problem = refusal(api.create(spec_of("web", &image, asked)).await);
        assert_eq!(problem.reason, Reason::NotFound, "{problem}");
        let remedy = problem.remedy.unwrap();
        assert!(remedy.contains(&format!("nearest are \"{nearest}\"")), "{remedy}");
        assert!(remedy.contains("weft ls types"), "{remedy}");
    }
    assert_eq!(api.list().await.len(), 0);
}
