//! What a host gives out: addresses, MACs, uids, memory.

use std::collections::BTreeSet;

use futures::future::join_all;
use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, instance_spec, ok, refused, stop_request, update_context};

#[tokio::test]
async fn a_wanted_address_is_given_or_refused_with_a_reason() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let at = |address: &str| {
        let mut spec = instance_spec("web", &image);
        spec.private_ip = Some(address.to_owned());
        spec
    };
    let made = ok(api.create(at("172.31.0.50")).await);
    assert_eq!(made.spec.unwrap().private_ip.as_deref(), Some("172.31.0.50"));
    for (address, word) in [
        ("172.31.0.50", "taken"),
        ("172.31.0.0", "reserved"),
        ("172.31.0.1", "reserved"),
        ("172.31.63.255", "reserved"),
        ("172.31.64.1", "not in"),
        ("10.0.0.1", "not in"),
    ] {
        let problem = crate::support::refusal(api.create(at(address)).await);
        assert_eq!(problem.field.as_deref(), Some("private_ip"), "{problem:?}");
        assert!(problem.message.contains(word), "{address}: {problem}");
    }
    refused(api.create(at("web")).await, Reason::InvalidArgument, "private_ip");
    // The address is free the moment that its instance is gone.
    let mut id = made.metadata.unwrap().id;
    for _ in 0..20 {
        api.remove(&id).await;
        id = ok(api.create(at("172.31.0.50")).await).metadata.unwrap().id;
    }
}

#[tokio::test]
async fn fifty_creates_at_once_get_fifty_addresses_macs_and_uids() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let creates = (0..50).map(|n| api.create(instance_spec(&format!("web-{n}"), &image)));
    let made: Vec<v1::Instance> = join_all(creates).await.into_iter().map(ok).collect();
    let addresses: BTreeSet<_> =
        made.iter().map(|i| i.spec.as_ref().unwrap().private_ip.clone()).collect();
    let macs: BTreeSet<_> =
        made.iter().map(|i| i.assigned.as_ref().unwrap().mac_address.clone()).collect();
    assert_eq!((addresses.len(), macs.len()), (50, 50));
    for instance in &made {
        let id = &instance.metadata.as_ref().unwrap().id;
        api.wait(id, Until::WaitFor("ssh".to_owned())).await.unwrap();
    }
    agent.end().await;
    // Uids are no business of clients: they are read off the taps that the host was given.
    let taps = agent.things("tap");
    let uids: BTreeSet<_> = taps.iter().map(|(_, tap)| tap["owner_uid"].as_u64()).collect();
    assert_eq!((taps.len(), uids.len()), (50, 50), "{taps:?}");
    assert!(!uids.contains(&None), "{taps:?}");
}

#[tokio::test]
async fn memory_that_is_not_there_is_refused_with_how_much_is_free() {
    let agent = Agent::with(&["--sim-memory-mib", "1000"]).await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let sized = |memory_mib: u32| {
        let mut spec = instance_spec("web", &image);
        (spec.instance_type, spec.vcpus, spec.memory_mib) = (None, Some(1), Some(memory_mib));
        spec
    };
    let first = ok(api.create(sized(600)).await).metadata.unwrap().id;
    let message = refused(api.create(sized(600)).await, Reason::ResourceExhausted, "memory_mib");
    assert!(message.contains("400 of 1000 MiB are free"), "{message}");
    assert_eq!(api.free_memory_mib().await, 400);

    // One that is off takes none; it has to find room when it is switched on.
    let mut off = sized(600);
    off.power_state = Some("stopped".to_owned());
    let second = ok(api.create(off).await).metadata.unwrap().id;
    let get = |id: &str| v1::GetRequest { id: id.to_owned(), claim: false };
    let answer = api.instances.clone().start(get(&second)).await;
    refused(answer, Reason::ResourceExhausted, "memory_mib");
    // What it had is free when its guest has ended, not when that was asked for.
    ok(api.instances.clone().stop(stop_request(&first)).await);
    api.wait(&first, Until::Stopped(true)).await.unwrap();
    assert_eq!(api.free_memory_mib().await, 1000);
    ok(api.instances.clone().start(get(&second)).await);
    let answer = api.instances.clone().start(get(&first)).await;
    refused(answer, Reason::ResourceExhausted, "memory_mib");

    // So does one that grows, against what the others leave.
    api.wait(&second, Until::WaitFor("ssh".to_owned())).await.unwrap();
    let grow = async |memory_mib| {
        let running = api.instance(&second).await;
        let mut spec = sized(memory_mib);
        spec.power_state = Some("running".to_owned());
        let context = update_context(running.metadata.as_ref());
        api.instances.clone().update(v1::UpdateInstanceRequest { context, spec: Some(spec) }).await
    };
    refused(grow(1001).await, Reason::ResourceExhausted, "memory_mib");
    assert_eq!(api.free_memory_mib().await, 400);
    ok(grow(1000).await);
    assert_eq!(api.free_memory_mib().await, 0);
    api.remove(&second).await;
    assert_eq!(api.free_memory_mib().await, 1000);
}

#[tokio::test]
async fn switching_at_once_from_many_sides_leaves_the_books_right() {
    let agent = Agent::with(&["--sim-memory-mib", "1000"]).await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = api.running("web", &image).await.metadata.unwrap().id;
    let switches = (0..40).map(|n| {
        let (mut client, request) =
            (api.instances.clone(), v1::GetRequest { id: id.clone(), claim: false });
        async move {
            match n % 2 {
                0 => ok(client.stop(stop_request(&request.id)).await),
                _ => ok(client.start(request).await),
            }
        }
    });
    join_all(switches).await;
    let spec = api.instance(&id).await.spec.unwrap();
    let expected = if spec.power_state.as_deref() == Some("running") { 1000 - 128 } else { 1000 };
    assert_eq!(api.free_memory_mib().await, expected);
}
