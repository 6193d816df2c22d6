//! Create answers at once, once per token.

use std::collections::BTreeSet;

use futures::future::join_all;
use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, context, instance_spec, ok, refused, token};

#[tokio::test]
async fn create_answers_with_every_value_that_the_server_chooses() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    // It never answers SSH: were the answer to wait for that, the test would not end.
    let made = ok(api.create(instance_spec("sim-no-ssh", &image)).await);
    let (metadata, assigned) = (made.metadata.unwrap(), made.assigned.unwrap());
    assert!(metadata.id.starts_with("i-"), "{}", metadata.id);
    assert_eq!((metadata.generation, metadata.claimed), (1, true));
    let spec = made.spec.unwrap();
    let subnet = &ok(api.subnets.clone().list(v1::ListRequest::default()).await).items[0];
    assert_eq!(spec.subnet_id.as_ref(), Some(&subnet.metadata.as_ref().unwrap().id));
    assert_eq!(spec.private_ip.as_deref(), Some("172.31.0.4"));
    assert_eq!(spec.power_state.as_deref(), Some("running"));
    assert_eq!((assigned.vcpus, assigned.memory_mib, assigned.run_epoch), (1, 128, 1));
    assert_eq!(assigned.mac_address.len(), "02:00:00:00:00:00".len());
    assert!(assigned.interface_id.starts_with("eni-"), "{}", assigned.interface_id);
    assert!(assigned.host_id.starts_with("host-"), "{}", assigned.host_id);
    assert!(assigned.vpc_id.starts_with("vpc-"), "{}", assigned.vpc_id);
    assert_eq!(assigned.default_user, "admin");
    assert!(assigned.ssh_host_public_keys[0].starts_with("ssh-ed25519 "));
    assert_eq!(assigned.root_size_bytes, 4096);
}

#[tokio::test]
async fn an_instance_goes_through_its_phases_in_order_until_ssh_answers() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let made = ok(api.create(instance_spec("web", &image)).await);
    let id = made.metadata.unwrap().id;
    let events = api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();
    assert!(events.last().unwrap().done);
    assert!(events.iter().rev().skip(1).all(|event| !event.done));
    let order = ["pending", "starting", "running"];
    let places: Vec<usize> =
        events.iter().map(|e| order.iter().position(|state| *state == e.state).unwrap()).collect();
    assert!(places.is_sorted(), "{events:?}");

    api.wait(&id, Until::WaitFor("signal".to_owned())).await.unwrap();
    let status = api.instance(&id).await.status.unwrap();
    assert_eq!(status.state, "running");
    let phases: Vec<&str> = status.phases.iter().map(|record| record.phase.as_str()).collect();
    let (made, said) = phases.split_at(7);
    assert_eq!(
        made,
        [
            "accepted",
            "placed",
            "image_ready",
            "disk_ready",
            "network_ready",
            "hypervisor_started",
            "kernel",
        ]
    );
    // What a guest says comes when it says it.
    let said: BTreeSet<&str> = said.iter().copied().collect();
    assert_eq!(said, BTreeSet::from(["cloud_init", "dhcp_or_imds", "signalled", "ssh_banner"]));
    assert!(status.phases.is_sorted_by_key(|record| record.at_unix_ms), "{:?}", status.phases);
    assert!(status.launched_at_unix_ms.is_some());
}

fn create_as(token: &str, spec: v1::InstanceSpec) -> v1::CreateInstanceRequest {
    let context =
        v1::CreateContext { client_token: token.to_owned(), ..v1::CreateContext::default() };
    v1::CreateInstanceRequest { context: Some(context), spec: Some(spec) }
}

#[tokio::test]
async fn a_token_makes_one_object_also_across_a_restart_and_never_another() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let request = create_as("once", instance_spec("web", &image));
    let first = ok(api.instances.clone().create(request.clone()).await).metadata.unwrap();
    let again = ok(api.instances.clone().create(request.clone()).await).metadata.unwrap();
    assert_eq!(first.id, again.id);
    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    let again = ok(api.instances.clone().create(request.clone()).await).metadata.unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!(api.list().await.len(), 1);

    let mut other = request.clone();
    other.spec.as_mut().unwrap().name = Some("other".to_owned());
    let answer = api.instances.clone().create(other).await;
    refused(answer, Reason::AlreadyExists, "context.client_token");
    let mut tagged = request;
    tagged.context.as_mut().unwrap().tags.insert("a".to_owned(), "b".to_owned());
    let answer = api.instances.clone().create(tagged).await;
    refused(answer, Reason::AlreadyExists, "context.client_token");
    // The token counts for every kind.
    let spec = v1::SecurityGroupSpec { name: "web".to_owned(), ..Default::default() };
    let context = v1::CreateContext { client_token: "once".to_owned(), ..Default::default() };
    let group = v1::CreateSecurityGroupRequest { context: Some(context), spec: Some(spec) };
    let answer = api.groups.clone().create(group).await;
    refused(answer, Reason::AlreadyExists, "context.client_token");
}

#[tokio::test]
async fn twenty_creates_at_once_with_one_token_make_one_object() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let mut spec = instance_spec("web", &image);
    spec.private_ip = Some("172.31.0.77".to_owned());
    let request = create_as("once", spec);
    let creates = (0..20).map(|_| {
        let (mut client, request) = (api.instances.clone(), request.clone());
        async move { ok(client.create(request).await).metadata.unwrap().id }
    });
    let ids: BTreeSet<String> = join_all(creates).await.into_iter().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(api.list().await.len(), 1);

    // A kind whose names are unique: the others must not see the first one's name.
    let context = v1::CreateContext { client_token: token(), ..Default::default() };
    let spec = v1::KeyPairSpec {
        key_name: "me".to_owned(),
        public_key: crate::support::PUBLIC_KEY.to_owned(),
    };
    let request = v1::CreateKeyPairRequest { context: Some(context), spec: Some(spec) };
    let creates = (0..20).map(|_| {
        let (mut client, request) = (api.key_pairs.clone(), request.clone());
        async move { ok(client.create(request).await).metadata.unwrap().id }
    });
    let ids: BTreeSet<String> = join_all(creates).await.into_iter().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test]
async fn a_create_without_a_token_or_with_an_unknown_reference_is_refused_at_its_field() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let request = create_as("", instance_spec("web", &image));
    refused(
        api.instances.clone().create(request).await,
        Reason::InvalidArgument,
        "context.client_token",
    );
    type Change = fn(&mut v1::InstanceSpec);
    let nowhere = |change: Change| {
        let mut spec = instance_spec("web", &image);
        change(&mut spec);
        spec
    };
    #[rustfmt::skip]
    let cases: [(Change, Reason, &str); 7] = [
        (|s| s.image_id = "img-00000000000000000".to_owned(), Reason::NotFound, "image_id"),
        (|s| s.image_id = "i-00000000000000000".to_owned(), Reason::InvalidArgument, "image_id"),
        (|s| s.instance_type = Some("t3.micro".to_owned()), Reason::NotFound, "instance_type"),
        (|s| s.subnet_id = Some("subnet-00000000000000000".to_owned()), Reason::NotFound, "subnet_id"),
        (|s| s.key_names = vec!["nobody".to_owned()], Reason::NotFound, "key_names"),
        (|s| s.power_state = Some("on".to_owned()), Reason::InvalidArgument, "power_state"),
        (|s| s.security_group_ids = Some(v1::SecurityGroupIds::default()),
            Reason::InvalidArgument, "security_group_ids"),
    ];
    for (change, reason, field) in cases {
        let request = v1::CreateInstanceRequest { context: context(), spec: Some(nowhere(change)) };
        let problem = crate::support::refusal(api.instances.clone().create(request).await);
        assert_eq!(
            (problem.reason, problem.field.as_deref()),
            (reason, Some(field)),
            "{problem:?}"
        );
    }
    assert_eq!(api.list().await.len(), 0);
}
