//! Elastic IPs, what they lead to, public addresses of instances, and port forwards.

use std::net::TcpListener;

use futures::future::join_all;
use weft_model::{Problem, Reason};
use weft_proto::v1;

use crate::support::{
    Agent, Api, context, delete, instance_spec, ok, refusal, refused, subnet_spec, update_context,
    vpc_spec,
};

async fn elastic_ip(api: &Api, address: Option<&str>) -> Result<v1::ElasticIp, Problem> {
    let spec = v1::ElasticIpSpec { name: None, address: address.map(str::to_owned) };
    let request = v1::CreateElasticIpRequest { context: context(), spec: Some(spec) };
    let made = api.elastic_ips.clone().create(request).await;
    made.map(tonic::Response::into_inner).map_err(|s| weft_proto::problem_from_status(&s))
}

async fn associate(
    api: &Api,
    eip: &str,
    instance: &str,
) -> Result<tonic::Response<v1::ElasticIpAssociation>, tonic::Status> {
    let spec = v1::ElasticIpAssociationSpec {
        elastic_ip_id: eip.to_owned(),
        instance_id: Some(instance.to_owned()),
        network_interface_id: None,
    };
    let request = v1::CreateElasticIpAssociationRequest { context: context(), spec: Some(spec) };
    api.associations.clone().create(request).await
}

fn forward_spec(port: u32, instance: &str) -> v1::PortForwardSpec {
    v1::PortForwardSpec {
        name: "web".to_owned(),
        protocol: "tcp".to_owned(),
        host_port: port,
        instance_id: Some(instance.to_owned()),
        ..v1::PortForwardSpec::default()
    }
}

async fn forward(
    api: &Api,
    spec: v1::PortForwardSpec,
) -> Result<tonic::Response<v1::PortForward>, tonic::Status> {
    let request = v1::CreatePortForwardRequest { context: context(), spec: Some(spec) };
    api.forwards.clone().create(request).await
}

/// What the packet filter of the default VPC translates.
fn nat(agent: &Agent) -> serde_json::Value {
    let filters = agent.things("firewall");
    let translations = filters.iter().map(|(_, filter)| &filter["nat"]);
    translations.max_by_key(|nat| nat.to_string().len()).cloned().unwrap()
}

fn id(metadata: &Option<v1::Metadata>) -> String {
    metadata.as_ref().unwrap().id.clone()
}

#[tokio::test]
async fn the_lowest_free_address_of_the_pool_is_given_out_and_comes_back() {
    let agent = Agent::with(&["--public-pool", "192.0.2.8/30,192.0.2.100-192.0.2.101"]).await;
    let api = agent.api().await;
    let made = join_all((0..4).map(|_| elastic_ip(&api, None))).await;
    let mut addresses: Vec<_> =
        made.iter().map(|m| m.as_ref().unwrap().public_ip.clone()).collect();
    addresses.sort();
    assert_eq!(addresses, ["192.0.2.10", "192.0.2.100", "192.0.2.101", "192.0.2.9"]);
    let full = elastic_ip(&api, None).await.unwrap_err();
    assert_eq!(full.reason, Reason::ResourceExhausted);
    assert!(full.message.contains("192.0.2.8/30, 192.0.2.100-192.0.2.101"), "{full}");

    let taken = elastic_ip(&api, Some("192.0.2.9")).await.unwrap_err();
    assert_eq!((taken.reason, taken.field.as_deref()), (Reason::AlreadyExists, Some("address")));
    let outside = elastic_ip(&api, Some("192.0.2.50")).await.unwrap_err();
    assert_eq!(outside.reason, Reason::InvalidArgument);
    assert!(outside.message.contains("192.0.2.8/30"), "the pool is named: {outside}");

    let nine = made.into_iter().map(Result::unwrap).find(|eip| eip.public_ip == "192.0.2.9");
    let nine = id(&nine.unwrap().metadata);
    ok(api.elastic_ips.clone().delete(delete(&nine)).await);
    let again = elastic_ip(&api, Some("192.0.2.9")).await.unwrap();
    assert_eq!(again.spec.unwrap().address.as_deref(), Some("192.0.2.9"));
}

#[tokio::test]
async fn an_elastic_ip_leads_to_one_interface_which_has_one() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let one = id(&ok(api.create(instance_spec("one", &image)).await).metadata);
    let other = id(&ok(api.create(instance_spec("other", &image)).await).metadata);
    let made = elastic_ip(&api, None).await.unwrap();
    let (eip, public_ip) = (id(&made.metadata), made.public_ip);
    let made = ok(associate(&api, &eip, &one).await);
    assert_eq!(id(&made.metadata), format!("{eip}/{one}"));
    let private =
        ok(api.instances.clone().get(v1::GetRequest { id: one.clone(), claim: false }).await);
    let private = private.spec.unwrap().private_ip.unwrap();
    assert_eq!(nat(&agent)["public"][&public_ip], private.as_str());

    let message =
        refused(associate(&api, &eip, &other).await, Reason::AlreadyExists, "elastic_ip_id");
    assert!(message.contains(&one), "{message}");
    let second = id(&elastic_ip(&api, None).await.unwrap().metadata);
    let message =
        refused(associate(&api, &second, &one).await, Reason::AlreadyExists, "instance_id");
    assert!(message.contains(&eip), "{message}");

    let message = refused(api.elastic_ips.clone().delete(delete(&eip)).await, Reason::InUse, "id");
    assert!(message.contains(&format!("{one} (one)")), "{message}");
    let message = refused(api.instances.clone().delete(delete(&one)).await, Reason::InUse, "id");
    assert!(message.contains(&eip), "{message}");

    ok(api.associations.clone().delete(delete(&format!("{eip}/{one}"))).await);
    assert_eq!(nat(&agent)["public"], serde_json::json!({}));
    ok(associate(&api, &eip, &other).await);
    ok(associate(&api, &second, &one).await);
    for end in [format!("{eip}/{other}"), format!("{second}/{one}")] {
        ok(api.associations.clone().delete(delete(&end)).await);
    }
    api.remove(&one).await;
}

#[tokio::test]
async fn an_instance_keeps_the_public_address_that_it_was_made_with() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let spec = v1::InstanceSpec {
        associate_public_ip_address: Some(true),
        ..instance_spec("with", &image)
    };
    let made = ok(api.create(spec).await);
    let instance = id(&made.metadata);
    let public_ip = made.assigned.unwrap().public_ip.unwrap();
    assert_eq!(public_ip, "198.18.0.1");
    let without = ok(api.create(instance_spec("without", &image)).await);
    assert_eq!(without.assigned.unwrap().public_ip, None);
    let eip = elastic_ip(&api, None).await.unwrap();
    assert_eq!(eip.public_ip, "198.18.0.2");
    let answer = associate(&api, &id(&eip.metadata), &instance).await;
    refused(answer, Reason::FailedPrecondition, "instance_id");

    let mut other = made.spec.unwrap();
    other.associate_public_ip_address = Some(false);
    let update = v1::UpdateInstanceRequest {
        context: update_context(made.metadata.as_ref()),
        spec: Some(other),
    };
    let answer = api.instances.clone().update(update).await;
    refused(answer, Reason::InvalidArgument, "associate_public_ip_address");

    api.remove(&instance).await;
    assert_eq!(elastic_ip(&api, None).await.unwrap().public_ip, public_ip, "it is free again");
}

#[tokio::test]
async fn a_subnet_says_whether_new_instances_get_a_public_address() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let vpc = id(&ok(api.vpc(vpc_spec("lab", "10.0.0.0/16")).await).metadata);
    let open = v1::SubnetSpec {
        map_public_ip_on_launch: true,
        ..subnet_spec("open", &vpc, "10.0.1.0/24")
    };
    let open = id(&ok(api.subnet(open).await).metadata);
    for (asked, wanted) in [(None, true), (Some(false), false), (Some(true), true)] {
        let spec = v1::InstanceSpec {
            subnet_id: Some(open.clone()),
            associate_public_ip_address: asked,
            ..instance_spec("it", &image)
        };
        let made = ok(api.create(spec).await);
        assert_eq!(made.assigned.unwrap().public_ip.is_some(), wanted, "{asked:?}");
    }
    let bridge = v1::VpcSpec { mode: "bridge".to_owned(), ..vpc_spec("lan", "10.9.0.0/24") };
    let lan = id(&ok(api.vpc(bridge).await).metadata);
    let spec = v1::SubnetSpec {
        map_public_ip_on_launch: true,
        ..subnet_spec("desks", &lan, "10.9.0.128/26")
    };
    refused(api.subnet(spec).await, Reason::InvalidArgument, "map_public_ip_on_launch");
    let desks = id(&ok(api.subnet(subnet_spec("desks", &lan, "10.9.0.128/26")).await).metadata);
    let spec = v1::InstanceSpec { subnet_id: Some(desks), ..instance_spec("desk", &image) };
    let asking = v1::InstanceSpec { associate_public_ip_address: Some(true), ..spec.clone() };
    let answer = api.create(asking).await;
    refused(answer, Reason::InvalidArgument, "associate_public_ip_address");
    let desk = id(&ok(api.create(spec).await).metadata);
    let eip = id(&elastic_ip(&api, None).await.unwrap().metadata);
    let message =
        refused(associate(&api, &eip, &desk).await, Reason::FailedPrecondition, "instance_id");
    assert!(message.contains("bridge"), "{message}");
}

#[tokio::test]
async fn a_port_of_the_host_leads_to_one_guest() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let instance = id(&ok(api.create(instance_spec("web", &image)).await).metadata);
    let made = ok(forward(&api, forward_spec(8080, &instance)).await);
    assert_eq!(made.spec.as_ref().unwrap().target_port, Some(8080), "the same, unless said");
    assert_eq!(nat(&agent)["forwards"][0]["port"], 8080);

    let answer = forward(&api, forward_spec(8080, &instance)).await;
    let message = refused(answer, Reason::AlreadyExists, "host_port");
    assert!(message.contains(&id(&made.metadata)), "{message}");
    let udp = v1::PortForwardSpec { protocol: "udp".to_owned(), ..forward_spec(8080, &instance) };
    ok(forward(&api, udp).await);
    for (spec, field) in [
        (forward_spec(0, &instance), "host_port"),
        (
            v1::PortForwardSpec { target_port: Some(70_000), ..forward_spec(1, &instance) },
            "target_port",
        ),
        (
            v1::PortForwardSpec { protocol: "icmp".to_owned(), ..forward_spec(1, &instance) },
            "protocol",
        ),
        (v1::PortForwardSpec { instance_id: None, ..forward_spec(1, &instance) }, "instance_id"),
    ] {
        refused(forward(&api, spec).await, Reason::InvalidArgument, field);
    }
    let nobody = refusal(forward(&api, forward_spec(1, "i-00000000000000000")).await);
    assert_eq!((nobody.reason, nobody.field.as_deref()), (Reason::NotFound, Some("instance_id")));

    let context = update_context(made.metadata.as_ref());
    let mut spec = made.spec.clone().unwrap();
    spec.target_port = Some(80);
    let request = v1::UpdatePortForwardRequest { context, spec: Some(spec) };
    ok(api.forwards.clone().update(request).await);
    let translated = nat(&agent)["forwards"].as_array().unwrap().clone();
    assert!(translated.iter().any(|one| one["target_port"] == 80), "{translated:?}");
    let message =
        refused(api.instances.clone().delete(delete(&instance)).await, Reason::InUse, "id");
    assert!(message.contains("(web)"), "{message}");
}

#[tokio::test]
async fn a_pool_without_addresses_in_use_does_not_start() {
    let mut agent = Agent::with(&["--public-pool", "192.0.2.0/29"]).await;
    let api = agent.api().await;
    let eip = elastic_ip(&api, Some("192.0.2.5")).await.unwrap();
    agent.end().await;

    agent.set_flags(&["--public-pool", "192.0.2.0/30"]);
    agent.spawn();
    let said = crate::support::eventually("it gives up", async || {
        agent.ended().map(|status| (status, agent.log()))
    })
    .await;
    assert!(!said.0.success());
    assert!(said.1.contains(&format!("192.0.2.5 of {}", id(&eip.metadata))), "{}", said.1);

    // Without the flag it is the pool of before; a larger one is welcome.
    agent.set_flags(&[]);
    agent.start_again().await;
    let api = agent.api().await;
    assert_eq!(elastic_ip(&api, None).await.unwrap().public_ip, "192.0.2.1");
    agent.end().await;
    agent.set_flags(&["--public-pool", "192.0.2.0/28"]);
    agent.start_again().await;
    let api = agent.api().await;
    assert!(elastic_ip(&api, Some("192.0.2.14")).await.is_ok());
}

/// A simulated host has no services of its own: its ports are all free.
#[tokio::test]
async fn associations_and_forwards_survive_the_agent() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = u32::from(listener.local_addr().unwrap().port());
    let instance = id(&ok(api.create(instance_spec("web", &image)).await).metadata);
    let eip = id(&elastic_ip(&api, None).await.unwrap().metadata);
    ok(associate(&api, &eip, &instance).await);
    ok(forward(&api, forward_spec(port, &instance)).await);
    let before = nat(&agent);
    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    let listed = ok(api.associations.clone().list(v1::ListRequest::default()).await).items;
    assert_eq!(id(&listed[0].metadata), format!("{eip}/{instance}"));
    assert_eq!(nat(&agent), before);
}
