//! Network interfaces of their own: their addresses, who has them, and how they come to guests that
//! run.

use std::collections::BTreeSet;

use futures::future::join_all;
use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{
    Agent, Api, delete, eventually, get, instance_spec, ok, refusal, refused, stop_request,
    subnet_spec, update_context, vpc_spec,
};

fn named(name: &str) -> v1::NetworkInterfaceSpec {
    v1::NetworkInterfaceSpec { name: name.to_owned(), ..v1::NetworkInterfaceSpec::default() }
}

async fn interface(api: &Api, name: &str) -> String {
    ok(api.interface(named(name)).await).metadata.unwrap().id
}

/// The interfaces that the simulated guest has, its own included.
fn nics(agent: &Agent, instance: &str) -> usize {
    let guests = agent.things("guest");
    let guest = guests.iter().find(|(id, _)| id == instance).map(|(_, guest)| guest);
    guest.map_or(0, |guest| guest["nics"].as_array().unwrap().len())
}

#[tokio::test]
async fn two_hundred_creates_at_once_get_no_address_or_mac_twice() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let creates = (0..200).map(|n| {
        let (api, image) = (&api, &image);
        async move {
            if n % 2 == 0 {
                let made = ok(api.interface(named(&format!("n{n}"))).await);
                return (made.spec.unwrap().private_ip.unwrap(), made.mac_address);
            }
            let spec = v1::InstanceSpec {
                power_state: Some("stopped".to_owned()),
                ..instance_spec(&format!("n{n}"), image)
            };
            let made = ok(api.create(spec).await);
            (made.spec.unwrap().private_ip.unwrap(), made.assigned.unwrap().mac_address)
        }
    });
    let made = join_all(creates).await;
    let addresses: BTreeSet<_> = made.iter().map(|(address, _)| address).collect();
    let macs: BTreeSet<_> = made.iter().map(|(_, mac)| mac).collect();
    assert_eq!((addresses.len(), macs.len()), (200, 200));
    // Nor after the agent has begun again from its store.
    let mut agent = agent;
    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    let next = ok(api.interface(named("next")).await);
    assert!(!addresses.contains(&next.spec.unwrap().private_ip.unwrap()));
    let taken = v1::NetworkInterfaceSpec { private_ip: Some(made[0].0.clone()), ..named("same") };
    let problem = refusal(api.interface(taken).await);
    assert_eq!(problem.field.as_deref(), Some("private_ip"), "{problem}");
}

#[tokio::test]
async fn an_interface_comes_to_a_guest_that_runs_and_goes_again() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let web = api.running("web", &image).await.metadata.unwrap().id;
    let eni = interface(&api, "second").await;
    let taps = || agent.things("tap").len();
    assert_eq!((nics(&agent, &web), taps()), (1, 1));

    let attached = ok(api.attach(&web, &eni, None).await);
    let id = format!("{web}/{eni}");
    assert_eq!(attached.metadata.unwrap().id, id);
    assert_eq!(attached.spec.unwrap().device_index, Some(1));
    assert_eq!((nics(&agent, &web), taps()), (2, 2), "the answer comes when the guest has it");

    // It is one instance's, and named by those that it keeps from being removed.
    let other = api.running("other", &image).await.metadata.unwrap().id;
    let message = refused(
        api.attach(&other, &eni, None).await,
        Reason::AlreadyExists,
        "network_interface_id",
    );
    assert!(message.contains(&web), "{message}");
    let message = refused(api.interfaces.clone().delete(delete(&eni)).await, Reason::InUse, "id");
    assert!(message.contains(&web), "{message}");

    // It is there after a kill of the agent, and after a stop and a start of the guest.
    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    ok(api.instances.clone().stop(stop_request(&web)).await);
    api.wait(&web, Until::Stopped(true)).await.unwrap();
    ok(api.instances.clone().start(get(&web)).await);
    api.wait(&web, Until::WaitFor("ssh".to_owned())).await.unwrap();
    assert_eq!(nics(&agent, &web), 2);

    ok(api.attachments.clone().delete(delete(&id)).await);
    assert_eq!(nics(&agent, &web), 1, "the answer comes when the guest has let go of it");
    eventually("its tap goes", async || (agent.things("tap").len() == 2).then_some(())).await;
    refused(api.attachments.clone().get(get(&id)).await, Reason::NotFound, "id");
    // Elsewhere it is the same interface.
    ok(api.attach(&other, &eni, Some(5)).await);
    assert_eq!(nics(&agent, &other), 2);
    api.remove(&other).await;
    let survivor = ok(api.interfaces.clone().get(get(&eni)).await);
    assert!(survivor.spec.is_some(), "it survives the instance that it was attached to");
    ok(api.interfaces.clone().delete(delete(&eni)).await);
}

#[tokio::test]
async fn what_is_attached_to_an_instance_that_is_off_is_there_at_its_start() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let off = v1::InstanceSpec {
        power_state: Some("stopped".to_owned()),
        ..instance_spec("off", &image)
    };
    let id = ok(api.create(off).await).metadata.unwrap().id;
    let [first, second] = [interface(&api, "first").await, interface(&api, "second").await];
    ok(api.attach(&id, &first, Some(3)).await);
    ok(api.attach(&id, &second, None).await);
    ok(api.attachments.clone().delete(delete(&format!("{id}/{second}"))).await);
    assert_eq!(agent.things("tap").len(), 0, "an instance that is off has no taps");
    ok(api.instances.clone().start(get(&id)).await);
    api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();
    assert_eq!(nics(&agent, &id), 2);
    let listed = ok(api.attachments.clone().list(v1::ListRequest::default()).await).items;
    let indices: Vec<_> =
        listed.iter().map(|one| one.spec.as_ref().unwrap().device_index).collect();
    assert_eq!(indices, [Some(3)]);
}

#[tokio::test]
async fn a_guest_that_does_not_let_go_is_told_of_and_does_at_its_stop() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = api.running("sim-keeps-nics", &image).await.metadata.unwrap().id;
    let eni = interface(&api, "kept").await;
    ok(api.attach(&id, &eni, None).await);
    let attachment = format!("{id}/{eni}");
    let problem = refusal(api.attachments.clone().delete(delete(&attachment)).await);
    assert_eq!(problem.reason, Reason::FailedPrecondition, "{problem}");
    assert!(problem.remedy.unwrap().contains(&format!("weft stop {id}")));
    let reason = api.instance(&id).await.status.unwrap().reason.unwrap();
    assert!(reason.contains("does not let go of"), "{reason}");
    let again = refused(
        api.attach(&id, &eni, None).await,
        Reason::FailedPrecondition,
        "network_interface_id",
    );
    assert!(again.contains("still being detached"), "{again}");
    ok(api.instances.clone().stop(stop_request(&id)).await);
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    refused(api.attachments.clone().delete(delete(&attachment)).await, Reason::NotFound, "id");
    ok(api.interfaces.clone().delete(delete(&eni)).await);
}

#[tokio::test]
async fn what_cannot_be_attached_is_refused_at_its_field() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let off = v1::InstanceSpec {
        power_state: Some("stopped".to_owned()),
        ..instance_spec("off", &image)
    };
    let made = ok(api.create(off).await);
    let (id, own) = (made.metadata.unwrap().id, made.assigned.unwrap().interface_id);
    let vpc = ok(api.vpc(vpc_spec("lab", "10.0.0.0/16")).await).metadata.unwrap().id;
    let subnet = ok(api.subnet(subnet_spec("a", &vpc, "10.0.1.0/24")).await).metadata.unwrap().id;
    let far = v1::NetworkInterfaceSpec { subnet_id: Some(subnet.clone()), ..named("far") };
    let far = ok(api.interface(far).await).metadata.unwrap().id;
    let near = interface(&api, "near").await;
    let nobody = "eni-00000000000000000";
    #[rustfmt::skip]
    let cases = [
        (far.as_str(),  None,    Reason::InvalidArgument, "network_interface_id", "in a subnet of"),
        (nobody,        None,    Reason::NotFound,        "network_interface_id", ""),
        (own.as_str(),  None,    Reason::NotFound,        "network_interface_id", "made with"),
        (near.as_str(), Some(0), Reason::InvalidArgument, "device_index",         "1 to 7"),
        (near.as_str(), Some(8), Reason::InvalidArgument, "device_index",         "1 to 7"),
    ];
    for (interface, index, reason, field, remedy) in cases {
        let problem = refusal(api.attach(&id, interface, index).await);
        assert_eq!((problem.reason, problem.field.as_deref()), (reason, Some(field)), "{problem}");
        assert!(problem.remedy.unwrap_or_default().contains(remedy), "{interface} {index:?}");
    }
    for n in 1..8 {
        let one = interface(&api, &format!("n{n}")).await;
        ok(api.attach(&id, &one, None).await);
    }
    let message =
        refused(api.attach(&id, &near, None).await, Reason::ResourceExhausted, "instance_id");
    assert!(message.contains("8 network interfaces"), "{message}");

    // What an interface uses stays, and names it.
    for (answer, what) in [
        (api.vpcs.clone().delete(delete(&vpc)).await, "VPC"),
        (api.subnets.clone().delete(delete(&subnet)).await, "subnet"),
    ] {
        let problem = refusal(answer);
        assert_eq!(problem.reason, Reason::InUse, "{what}: {problem}");
        assert!(problem.message.contains(&format!("{far} (far)")), "{what}: {problem}");
    }
}

#[tokio::test]
async fn groups_and_the_check_of_addresses_change_live_and_the_place_never() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let group = api.group("web").await.metadata.unwrap().id;
    let made = ok(api.interface(named("it")).await);
    let spec = made.spec.clone().unwrap();
    assert_eq!(spec.source_dest_check, Some(true));
    let update = async |made: &v1::NetworkInterface, spec: v1::NetworkInterfaceSpec| {
        let context = update_context(made.metadata.as_ref());
        let request = v1::UpdateNetworkInterfaceRequest { context, spec: Some(spec) };
        api.interfaces.clone().update(request).await
    };
    let ids = vec![group.clone()];
    let changed = v1::NetworkInterfaceSpec {
        name: "renamed".to_owned(),
        security_group_ids: Some(v1::SecurityGroupIds { ids }),
        source_dest_check: Some(false),
        ..spec.clone()
    };
    let made = ok(update(&made, changed.clone()).await);
    assert_eq!(made.spec.as_ref(), Some(&changed));
    let moved = v1::NetworkInterfaceSpec { private_ip: Some("172.31.9.9".to_owned()), ..changed };
    refused(update(&made, moved).await, Reason::InvalidArgument, "private_ip");
    let problem = refusal(api.groups.clone().delete(delete(&group)).await);
    assert!(problem.message.contains("(renamed)"), "{problem}");
}

#[tokio::test]
async fn on_a_bridge_the_check_of_addresses_cannot_be_switched_off() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let lan = v1::VpcSpec { mode: "bridge".to_owned(), ..vpc_spec("lan", "10.9.0.0/16") };
    let vpc = ok(api.vpc(lan).await).metadata.unwrap().id;
    let subnet = ok(api.subnet(subnet_spec("lan", &vpc, "10.9.1.0/24")).await).metadata.unwrap().id;
    let checked = v1::NetworkInterfaceSpec { subnet_id: Some(subnet.clone()), ..named("it") };
    let unchecked = v1::NetworkInterfaceSpec { source_dest_check: Some(false), ..checked.clone() };
    let field = "source_dest_check";
    refused(api.interface(unchecked.clone()).await, Reason::InvalidArgument, field);
    let made = ok(api.interface(checked).await);
    let context = update_context(made.metadata.as_ref());
    let request = v1::UpdateNetworkInterfaceRequest { context, spec: Some(unchecked) };
    refused(api.interfaces.clone().update(request).await, Reason::InvalidArgument, field);
    let image = api.image_id().await;
    let guest = v1::InstanceSpec {
        subnet_id: Some(subnet),
        source_dest_check: Some(false),
        ..instance_spec("guest", &image)
    };
    refused(api.create(guest).await, Reason::InvalidArgument, field);
}
