//! Updates: made for a generation, counted only when something changes.

use futures::future::join_all;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{
    Agent, Api, eventually, instance_spec, ok, refusal, refused, stop_request, update_context,
};

fn update(instance: &v1::Instance) -> v1::UpdateInstanceRequest {
    let mut spec = instance.spec.clone().unwrap();
    if spec.instance_type.is_some() {
        (spec.vcpus, spec.memory_mib) = (None, None);
    }
    v1::UpdateInstanceRequest {
        context: update_context(instance.metadata.as_ref()),
        spec: Some(spec),
    }
}

fn generation(instance: &v1::Instance) -> u64 {
    instance.metadata.as_ref().unwrap().generation
}

#[tokio::test]
async fn an_update_that_changes_nothing_keeps_the_generation_and_status_changes_do_too() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let running = api.running("web", &image).await;
    assert_eq!(generation(&running), 1);
    let same = ok(api.instances.clone().update(update(&running)).await);
    assert_eq!(generation(&same), 1);
    assert_eq!(same.assigned, running.assigned);
}

#[tokio::test]
async fn a_stale_generation_is_refused_and_the_message_says_what_is_there_now() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let before = api.running("web", &image).await;
    let mut request = update(&before);
    request.spec.as_mut().unwrap().name = Some("renamed".to_owned());
    let renamed = ok(api.instances.clone().update(request.clone()).await);
    assert_eq!(generation(&renamed), 2);
    let problem = refusal(api.instances.clone().update(request.clone()).await);
    assert_eq!(problem.reason, Reason::StaleGeneration);
    assert!(problem.message.contains("it is at generation 2"), "{problem}");
    assert!(problem.message.contains("made for 1"), "{problem}");
    assert!(problem.remedy.is_some());
    // Zero accepts any.
    request.context.as_mut().unwrap().expected_generation = 0;
    request.spec.as_mut().unwrap().name = Some("again".to_owned());
    assert_eq!(generation(&ok(api.instances.clone().update(request).await)), 3);
    assert_eq!(api.instance(&before.metadata.unwrap().id).await.assigned, before.assigned);
}

#[tokio::test]
async fn of_updates_at_once_for_one_generation_one_goes_through() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let before = api.running("web", &image).await;
    let updates = (0..10).map(|n| {
        let (mut client, mut request) = (api.instances.clone(), update(&before));
        request.spec.as_mut().unwrap().name = Some(format!("name-{n}"));
        async move { client.update(request).await }
    });
    let (done, refused): (Vec<_>, Vec<_>) =
        join_all(updates).await.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1);
    for answer in refused {
        assert_eq!(refusal(answer).reason, Reason::StaleGeneration);
    }
}

#[tokio::test]
async fn what_cannot_change_is_refused_at_its_field() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let other_image = api.image("other").await.metadata.unwrap().id;
    let before = api.running("web", &image).await;
    type Change<'a> = (&'a dyn Fn(&mut v1::InstanceSpec), &'a str);
    let cases: [Change<'_>; 2] = [
        (&|spec| spec.image_id = other_image.clone(), "image_id"),
        (&|spec| spec.private_ip = Some("172.31.0.200".to_owned()), "private_ip"),
    ];
    for (change, field) in cases {
        let mut request = update(&before);
        change(request.spec.as_mut().unwrap());
        refused(api.instances.clone().update(request).await, Reason::InvalidArgument, field);
    }
    assert_eq!(generation(&api.instance(&before.metadata.unwrap().id).await), 1);
}

#[tokio::test]
async fn a_root_disk_grows_under_its_guest_and_on_the_shelf_and_never_shrinks() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let before = api.running("web", &image).await;
    let id = before.metadata.as_ref().unwrap().id.clone();
    let grow = async |gib| {
        let mut request = update(&api.instance(&id).await);
        request.spec.as_mut().unwrap().root_volume_size_gib = Some(gib);
        api.instances.clone().update(request).await
    };
    let grown = async |gib: u64| {
        let bytes = || agent.things("guest")[0].1["root_bytes"].as_u64();
        eventually("it grows", async || (bytes() == Some(gib << 30)).then_some(())).await;
    };
    let now = ok(grow(3).await);
    assert_eq!(now.assigned.as_ref().unwrap().root_size_bytes, 3 << 30);
    assert_eq!(now.assigned.unwrap().run_epoch, before.assigned.unwrap().run_epoch);
    grown(3).await;
    ok(api.instances.clone().stop(stop_request(&id)).await);
    api.wait(&id, v1::wait_request::Until::Stopped(true)).await.unwrap();
    ok(grow(4).await);
    grown(4).await;

    let message = refused(grow(2).await, Reason::InvalidArgument, "root_volume.size_gib");
    assert!(message.contains("has 4 GiB and cannot shrink to 2 GiB"), "{message}");
}

#[tokio::test]
async fn metadata_options_are_live_and_stay_as_they_were_said() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let mut before = api.running("web", &image).await;
    assert_eq!(before.spec.as_ref().unwrap().metadata_options, None);
    let optional = v1::MetadataOptions {
        http_tokens: Some("optional".to_owned()),
        ..v1::MetadataOptions::default()
    };
    for options in [Some(optional), Some(v1::MetadataOptions::default()), None] {
        let mut request = update(&before);
        request.spec.as_mut().unwrap().metadata_options = options.clone();
        before = ok(api.instances.clone().update(request).await);
        assert_eq!(before.spec.as_ref().unwrap().metadata_options, options);
        assert_eq!(before.assigned.as_ref().unwrap().run_epoch, 1, "nothing is restarted");
    }
}

#[tokio::test]
async fn a_new_name_is_live_and_a_new_size_restarts() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let before = api.running("web", &image).await;
    let id = before.metadata.clone().unwrap().id;
    let mut request = update(&before);
    request.spec.as_mut().unwrap().name = Some("renamed".to_owned());
    request.context.as_mut().unwrap().tags.insert("a".to_owned(), "b".to_owned());
    let renamed = ok(api.instances.clone().update(request).await);
    assert_eq!(renamed.assigned.as_ref().unwrap().run_epoch, 1);

    let mut request = update(&renamed);
    request.spec.as_mut().unwrap().instance_type = Some("w1.micro".to_owned());
    let larger = ok(api.instances.clone().update(request).await);
    assert_eq!(larger.assigned.as_ref().unwrap().run_epoch, 2);
    api.wait(&id, v1::wait_request::Until::WaitFor("ssh".to_owned())).await.unwrap();
    let after = api.instance(&id).await;
    let launched = |instance: &v1::Instance| instance.status.as_ref().unwrap().launched_at_unix_ms;
    assert!(launched(&after) > launched(&before));
    assert_eq!(after.assigned.unwrap().memory_mib, 256);
}

/// What the simulated hypervisor has: vCPUs and MiB.
fn has(agent: &Agent) -> (u64, u64) {
    let guest = &agent.things("guest")[0].1;
    (guest["vcpus"].as_u64().unwrap(), guest["memory_mib"].as_u64().unwrap())
}

#[tokio::test]
async fn a_guest_with_room_grows_while_it_runs_and_a_restart_makes_it_smaller() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let mut spec = instance_spec("web", &image);
    (spec.instance_type, spec.vcpus, spec.memory_mib) = (None, Some(1), Some(128));
    (spec.max_vcpus, spec.max_memory_mib) = (Some(4), Some(1024));
    let made = ok(api.create(spec).await);
    let id = made.metadata.unwrap().id;
    api.wait(&id, v1::wait_request::Until::WaitFor("ssh".to_owned())).await.unwrap();
    let resize = async |vcpus, memory_mib| {
        let mut request = update(&api.instance(&id).await);
        let spec = request.spec.as_mut().unwrap();
        (spec.vcpus, spec.memory_mib) = (Some(vcpus), Some(memory_mib));
        api.instances.clone().update(request).await
    };
    let epoch = |instance: &v1::Instance| instance.assigned.as_ref().unwrap().run_epoch;

    // The answer comes when the guest has it.
    assert_eq!(epoch(&ok(resize(3, 512).await)), 1);
    assert_eq!(has(&agent), (3, 512));
    assert_eq!(epoch(&ok(resize(3, 640).await)), 1);
    assert_eq!(has(&agent), (3, 640));
    let slots = agent.things("guest")[0].1["slots"].clone();
    assert_eq!(slots, serde_json::json!({ "0": 384, "1": 128 }));

    let message = refused(resize(3, 700).await, Reason::InvalidArgument, "memory_mib");
    assert!(message.contains("steps of 128 MiB"), "{message}");
    let message = refused(resize(5, 640).await, Reason::InvalidArgument, "max_vcpus");
    assert!(message.contains("max_vcpus (4) is less than vcpus (5)"), "{message}");

    // It sleeps with all of it, and nothing of it changes meanwhile.
    let get = v1::GetRequest { id: id.clone(), claim: false };
    ok(api.instances.clone().hibernate(get.clone()).await);
    refused(resize(4, 640).await, Reason::FailedPrecondition, "vcpus");
    ok(api.instances.clone().start(get).await);
    api.wait(&id, v1::wait_request::Until::WaitFor("ssh".to_owned())).await.unwrap();
    assert_eq!(has(&agent), (3, 640));
    let before = epoch(&api.instance(&id).await);
    assert_eq!(epoch(&ok(resize(4, 640).await)), before);
    assert_eq!(has(&agent), (4, 640));

    assert_eq!(epoch(&ok(resize(2, 256).await)), before + 1);
    eventually("it is smaller", async || (has(&agent) == (2, 256)).then_some(())).await;
    assert_eq!(agent.things("guest")[0].1["slots"], serde_json::json!({}));
    // Other maxima are the next guest's.
    let mut request = update(&api.instance(&id).await);
    request.spec.as_mut().unwrap().max_vcpus = None;
    assert_eq!(epoch(&ok(api.instances.clone().update(request).await)), before + 2);
}

/// A running instance with one vCPU and 128 MiB, which may grow to `max_memory_mib`.
async fn small_guest(api: &Api, max_memory_mib: u32) -> String {
    let mut spec = instance_spec("web", &api.image_id().await);
    (spec.instance_type, spec.vcpus, spec.memory_mib) = (None, Some(1), Some(128));
    spec.max_memory_mib = Some(max_memory_mib);
    let id = ok(api.create(spec).await).metadata.unwrap().id;
    api.wait(&id, v1::wait_request::Until::WaitFor("ssh".to_owned())).await.unwrap();
    id
}

#[tokio::test]
async fn growth_that_the_hypervisor_refuses_is_told_and_tried_again() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let id = small_guest(&api, 1024).await;
    let orders =
        r#"{"orders": [{"step": "add_memory", "on": "web", "times": 2, "fail": "no room"}]}"#;
    agent.order(orders);
    let mut request = update(&api.instance(&id).await);
    request.spec.as_mut().unwrap().memory_mib = Some(256);
    ok(api.instances.clone().update(request).await);
    assert_eq!(has(&agent), (1, 256), "the answer waits for it");
    assert_eq!(agent.log().matches("obeying an order").count(), 2, "{}", agent.log());
}

#[tokio::test]
async fn growth_that_is_refused_keeps_no_volume_from_coming_and_going() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let id = small_guest(&api, 1024).await;
    let size = v1::VolumeSpec { size_gib: 1, ..v1::VolumeSpec::default() };
    let volume = ok(api.volume(size).await).metadata.unwrap().id;
    agent.order(r#"{"orders": [{"step": "add_memory", "on": "web", "fail": "no room"}]}"#);
    let mut request = update(&api.instance(&id).await);
    request.spec.as_mut().unwrap().memory_mib = Some(256);
    let mut instances = api.instances.clone();
    let growing = tokio::spawn(async move { instances.update(request).await });
    eventually("it is told", async || {
        let status = api.instance(&id).await.status.unwrap();
        (status.state == "running" && format!("{status:?}").contains("no room")).then_some(())
    })
    .await;
    ok(api.attach_volume(&id, &volume, false).await);
    assert_eq!(agent.things("guest")[0].1["volumes"], serde_json::json!([volume]));
    let attachment = v1::DeleteRequest { id: format!("{id}/{volume}") };
    ok(api.volume_attachments.clone().delete(attachment).await);
    assert_eq!(agent.things("guest")[0].1["volumes"], serde_json::json!([]));
    assert_eq!(has(&agent), (1, 128));
    // And it is tried again.
    agent.order(r#"{"orders": []}"#);
    eventually("it has grown", async || (has(&agent) == (1, 256)).then_some(())).await;
    ok(growing.await.unwrap());
}

#[tokio::test]
async fn memory_that_has_no_slot_left_is_refused_until_the_guest_is_restarted() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let id = small_guest(&api, 128 * 70).await;
    let resize = async |steps: u32| {
        let mut request = update(&api.instance(&id).await);
        request.spec.as_mut().unwrap().memory_mib = Some(128 * steps);
        api.instances.clone().update(request).await
    };
    for steps in 2..=65 {
        ok(resize(steps).await);
    }
    assert_eq!(has(&agent), (1, 128 * 65));
    let message = refused(resize(66).await, Reason::FailedPrecondition, "memory_mib");
    assert!(message.contains("has grown 64 times"), "{message}");
    ok(api.instances.clone().reboot(v1::GetRequest { id: id.clone(), claim: false }).await);
    eventually("it has one piece", async || {
        (agent.things("guest")[0].1["slots"] == serde_json::json!({})).then_some(())
    })
    .await;
    api.wait(&id, v1::wait_request::Until::WaitFor("ssh".to_owned())).await.unwrap();
    ok(resize(66).await);
    assert_eq!(has(&agent), (1, 128 * 66));
}

#[tokio::test]
async fn claims_and_updates_of_what_an_instance_refers_to_do_not_disturb_its_creation() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image("shared").await;
    let group = api.group("web").await;
    let (image_id, group_id) = (image.metadata.unwrap().id, group.metadata.clone().unwrap().id);
    let rename = async {
        let mut metadata = group.metadata.clone();
        for n in 0..60 {
            let mut context = update_context(metadata.as_ref());
            context.as_mut().unwrap().tags.insert("n".to_owned(), n.to_string());
            let request = v1::UpdateSecurityGroupRequest { context, spec: group.spec.clone() };
            metadata = ok(api.groups.clone().update(request).await).metadata;
        }
    };
    let create = async {
        for n in 0..60 {
            let mut spec = instance_spec(&format!("web-{n}"), &image_id);
            spec.power_state = Some("stopped".to_owned());
            spec.security_group_ids = Some(v1::SecurityGroupIds { ids: vec![group_id.clone()] });
            ok(api.create(spec).await);
        }
    };
    tokio::join!(rename, create);
}
