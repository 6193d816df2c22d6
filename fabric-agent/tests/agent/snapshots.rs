//! Snapshots of root disks, and images that are made of them.

use v1::capture_request::Source;
use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{
    Agent, Api, context, delete, eventually, get, id_of, image_spec, instance_spec, ok, refusal,
    token,
};

fn of(instance_id: &str) -> v1::CreateSnapshotRequest {
    let spec = v1::SnapshotSpec {
        instance_id: instance_id.to_owned(),
        description: "nightly".to_owned(),
        ..v1::SnapshotSpec::default()
    };
    v1::CreateSnapshotRequest { context: context(), spec: Some(spec) }
}

/// A snapshot that is made, or could not be.
async fn settled(api: &Api, id: &str) -> v1::Snapshot {
    eventually("the snapshot is settled", async || {
        let snapshot = ok(api.snapshots.clone().get(get(id)).await);
        (snapshot.state != "pending").then_some(snapshot)
    })
    .await
}

async fn snapshot(api: &Api, instance_id: &str) -> v1::Snapshot {
    let made = ok(api.snapshots.clone().create(of(instance_id)).await);
    settled(api, &made.metadata.unwrap().id).await
}

async fn capture(
    api: &Api,
    source: Source,
    reboot: bool,
) -> Result<v1::CaptureEvent, tonic::Status> {
    capture_as(api, source, reboot, "").await
}

async fn capture_as(
    api: &Api,
    source: Source,
    reboot: bool,
    consistency: &str,
) -> Result<v1::CaptureEvent, tonic::Status> {
    let request = v1::CaptureRequest {
        client_token: token(),
        source: Some(source),
        reboot,
        consistency: consistency.to_owned(),
    };
    let mut events = api.images.clone().capture(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        if event.done {
            return Ok(event);
        }
    }
    panic!("the stream ended without an answer")
}

#[tokio::test]
async fn a_disk_lies_over_what_it_was_sealed_into_until_nothing_needs_that() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let instance = api.running("web", &api.image_id().await).await;
    let id = id_of(instance.metadata.as_ref());
    let first = snapshot(&api, &id).await;
    let second = snapshot(&api, &id).await;
    assert_eq!((first.state.as_str(), second.state.as_str()), ("completed", "completed"));
    assert!(first.completed_at_unix_ms.is_some() && first.size_bytes > 0, "{first:?}");
    assert_eq!(agent.things("layer").len(), 2);
    let now = api.instance(&id).await;
    assert_eq!(now.metadata.unwrap().generation, instance.metadata.unwrap().generation);

    // The next guest is started over both: the simulated host refuses anything else.
    ok(api.instances.clone().reboot(get(&id)).await);
    api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();

    for gone in [&first, &second] {
        ok(api.snapshots.clone().delete(delete(&id_of(gone.metadata.as_ref()))).await);
    }
    ok(api.instances.clone().reboot(get(&id)).await);
    api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();
    assert_eq!(agent.things("layer").len(), 2, "the disk needs them");
    ok(api.instances.clone().delete(delete(&id)).await);
    eventually("the layers go with the disk", async || {
        agent.things("layer").is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_snapshotted_is_refused_at_its_field() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let missing = refusal(api.snapshots.clone().create(of("i-00000000000000000")).await);
    assert_eq!(missing.reason, Reason::NotFound);
    assert_eq!(missing.field.as_deref(), Some("instance_id"));
    let stopped = v1::InstanceSpec {
        power_state: Some("stopped".to_owned()),
        ..instance_spec("off", &api.image_id().await)
    };
    let off = ok(api.create(stopped).await);
    let never = refusal(api.snapshots.clone().create(of(&id_of(off.metadata.as_ref()))).await);
    assert!(never.message.contains("has never been started"), "{never:?}");

    let id = id_of(api.running("deep", &api.image_id().await).await.metadata.as_ref());
    for _ in 0..32 {
        assert_eq!(snapshot(&api, &id).await.state, "completed");
    }
    let deep = refusal(api.snapshots.clone().create(of(&id)).await);
    assert!(deep.message.contains("32 layers") && deep.remedy.is_some(), "{deep:?}");
    let deep =
        refusal(capture(&api, Source::InstanceId(id), false).await.map(tonic::Response::new));
    assert_eq!(deep.field.as_deref(), Some("source_instance_id"));
}

#[tokio::test]
async fn a_hypervisor_that_does_not_answer_holds_up_no_request() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let id = id_of(api.running("hung", &api.image_id().await).await.metadata.as_ref());
    let other = id_of(api.group("other").await.metadata.as_ref());
    let hang = r#"{"orders": [{"step": "observe_guest", "on": "hung", "hang": true}]}"#;
    agent.order(hang);
    // While it hangs: what is asked is answered, and so is who waits for all that makes references.
    let asked = ok(api.snapshots.clone().create(of(&id)).await);
    assert_eq!(asked.state, "pending");
    ok(api.groups.clone().delete(delete(&other)).await);
    agent.order(r#"{"orders": []}"#);
    let snapshot_id = id_of(asked.metadata.as_ref());
    eventually("the snapshot is made", async || {
        let now = ok(api.snapshots.clone().get(get(&snapshot_id)).await);
        (now.state == "completed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_instance_becomes_an_image_that_instances_are_made_of() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = id_of(api.running("web", &image).await.metadata.as_ref());
    for reboot in [false, true] {
        let before = api.instance(&id).await.assigned.unwrap().run_epoch;
        let captured = capture(&api, Source::InstanceId(id.clone()), reboot).await.unwrap();
        assert_eq!(
            (captured.boot_mode.as_str(), captured.default_user.as_str()),
            ("bios", "admin")
        );
        api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();
        let after = api.instance(&id).await.assigned.unwrap().run_epoch;
        assert_eq!(after - before, u64::from(reboot), "one launch more where it was asked for");
        let spec = image_spec("own", &[])
            .map(|spec| v1::ImageSpec { disk_sha256: captured.disk_sha256, ..spec });
        let request = v1::CreateImageRequest { context: context(), spec };
        let own = id_of(ok(api.images.clone().create(request).await).metadata.as_ref());
        api.running("of it", &own).await;
    }
    let left = ok(api.snapshots.clone().list(v1::ListRequest::default()).await).items;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_snapshot_outlives_its_instance_and_still_becomes_an_image() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = id_of(api.running("web", &image).await.metadata.as_ref());
    let kept = id_of(snapshot(&api, &id).await.metadata.as_ref());
    ok(api.instances.clone().delete(delete(&id)).await);
    api.wait(&id, Until::Gone(true)).await.unwrap();
    ok(api.images.clone().delete(delete(&image)).await);
    let captured = capture(&api, Source::SnapshotId(kept.clone()), false).await.unwrap();
    assert_eq!(captured.disk_sha256.len(), 64);
    let rebooted =
        refusal(capture(&api, Source::SnapshotId(kept), true).await.map(tonic::Response::new));
    assert_eq!(rebooted.field.as_deref(), Some("snapshot_without_reboot"));
    let missing = Source::SnapshotId("snap-00000000000000000".to_owned());
    let missing = refusal(capture(&api, missing, false).await.map(tonic::Response::new));
    assert_eq!(missing.field.as_deref(), Some("source_snapshot_id"));
}

#[tokio::test]
async fn a_snapshot_that_fails_says_why_and_changes_nothing_for_the_guest() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let id = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    agent.order(r#"{"orders": [{"step": "seal_root_disk", "fail": "the host's disk is full", "retryable": false}]}"#,
    );
    let failed = snapshot(&api, &id).await;
    assert_eq!(failed.state, "error");
    assert!(failed.reason.contains("the host's disk is full"), "{failed:?}");
    let captured = refusal(
        capture(&api, Source::InstanceId(id.clone()), false).await.map(tonic::Response::new),
    );
    assert!(captured.message.contains("the host's disk is full"), "{captured:?}");
    assert_eq!(captured.field.as_deref(), Some("source_instance_id"));
    let other = Source::SnapshotId(id_of(failed.metadata.as_ref()));
    let other = refusal(capture(&api, other, false).await.map(tonic::Response::new));
    assert!(other.message.contains("could not be made"), "{other:?}");
    assert!(agent.things("layer").is_empty());

    agent.order(r#"{"orders": [{"step": "flatten_disk", "fail": "no room", "retryable": false}]}"#);
    let kept = id_of(snapshot(&api, &id).await.metadata.as_ref());
    let captured =
        refusal(capture(&api, Source::SnapshotId(kept), false).await.map(tonic::Response::new));
    assert!(captured.evidence.is_some_and(|it| it.contains("no room")), "no evidence");
    agent.order(r#"{"orders": []}"#);
    ok(api.instances.clone().reboot(get(&id)).await);
    api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();
}

fn frozen(instance_id: &str) -> v1::CreateSnapshotRequest {
    let mut request = of(instance_id);
    request.spec.as_mut().unwrap().consistency = "frozen".to_owned();
    request
}

#[tokio::test]
async fn a_guest_is_frozen_for_a_snapshot_where_its_agent_answers_and_is_not_left_so() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = id_of(api.running("web", &image).await.metadata.as_ref());
    let made = ok(api.snapshots.clone().create(frozen(&id)).await);
    let made = settled(&api, &id_of(made.metadata.as_ref())).await;
    assert_eq!((made.state.as_str(), made.reason.as_str()), ("completed", ""));
    assert_eq!(made.spec.unwrap().consistency, "frozen");
    let layers = |kind| agent.things(kind).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!((layers("layer").len(), layers("frozen_layer")), (1, layers("layer")));
    // One that is taken as it is finds it thawed.
    assert_eq!(snapshot(&api, &id).await.state, "completed");
    assert_eq!((layers("layer").len(), layers("frozen_layer").len()), (2, 1));
    capture_as(&api, Source::InstanceId(id.clone()), false, "frozen").await.unwrap();
    assert_eq!(layers("frozen_layer").len(), 2);
    assert_eq!(agent.things("guest")[0].1["frozen"], false);
    // What it was asked to be cannot change.
    let metadata = made.metadata.unwrap();
    let context = Some(v1::UpdateContext {
        id: metadata.id,
        expected_generation: metadata.generation,
        ..v1::UpdateContext::default()
    });
    let update = v1::UpdateSnapshotRequest { context, spec: of(&id).spec };
    let refused = refusal(api.snapshots.clone().update(update).await);
    assert_eq!(refused.field.as_deref(), Some("consistency"));

    let both = capture_as(&api, Source::InstanceId(id.clone()), true, "frozen").await;
    assert_eq!(refusal(both.map(tonic::Response::new)).field.as_deref(), Some("consistency"));

    // The memory of one that sleeps has what its disk lacks.
    ok(api.instances.clone().hibernate(get(&id)).await);
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    let refused = refusal(api.snapshots.clone().create(frozen(&id)).await);
    assert_eq!(refused.field.as_deref(), Some("consistency"));
    assert!(refused.message.contains("hibernated"), "{refused:?}");

    // One that is off has nothing to be frozen.
    ok(api.instances.clone().start(get(&id)).await);
    api.wait(&id, Until::WaitFor("running".to_owned())).await.unwrap();
    ok(api.instances.clone().stop(v1::StopRequest { id: id.clone(), ..Default::default() }).await);
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    let made = ok(api.snapshots.clone().create(frozen(&id)).await);
    let made = settled(&api, &id_of(made.metadata.as_ref())).await;
    assert_eq!((made.state.as_str(), made.reason.as_str()), ("completed", ""));
}

#[tokio::test]
async fn a_guest_that_does_not_thaw_is_told_of_and_given_what_it_is_to_have() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let id = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    let spec = v1::VolumeSpec { size_gib: 1, ..Default::default() };
    let volume = id_of(ok(api.volume(spec).await).metadata.as_ref());
    let stays = r#"{"orders": [{"step": "thaw", "on": "web", "fail": "its agent does not thaw"}]}"#;
    agent.order(stays);
    let asked = ok(api.snapshots.clone().create(frozen(&id)).await);
    eventually("the guest is frozen", async || {
        (agent.things("guest")[0].1["frozen"] == true).then_some(())
    })
    .await;
    eventually("the instance tells of it", async || {
        let reason = api.instance(&id).await.status.unwrap().reason.unwrap_or_default();
        reason.contains("does not thaw").then_some(())
    })
    .await;
    ok(api.attach_volume(&id, &volume, false).await);
    eventually("the guest has the volume all the same", async || {
        let guest = agent.things("guest").remove(0).1;
        (guest["volumes"][0] == volume.as_str() && guest["frozen"] == true).then_some(())
    })
    .await;
    // What only its thaw could tell is not waited for: neither is the snapshot, nor what comes after it.
    let made = settled(&api, &id_of(asked.metadata.as_ref())).await;
    assert_eq!(made.state, "error");
    assert!(made.reason.contains("does not thaw"), "{}", made.reason);
    let plain = snapshot(&api, &id).await;
    assert_eq!(settled(&api, &id_of(plain.metadata.as_ref())).await.state, "completed");
    agent.order(r#"{"orders": []}"#);
    eventually("the guest is thawed", async || {
        (agent.things("guest")[0].1["frozen"] == false).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_guest_without_an_agent_is_told_and_nothing_is_taken_of_its_disk() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = id_of(api.running("sim-no-guest-agent", &image).await.metadata.as_ref());
    let refused = refusal(api.snapshots.clone().create(frozen(&id)).await);
    assert_eq!(refused.field.as_deref(), Some("consistency"));
    assert_eq!(refused.reason, Reason::FailedPrecondition);
    assert!(refused.message.contains("qemu-guest-agent"), "{refused:?}");
    let captured = capture_as(&api, Source::InstanceId(id.clone()), false, "frozen").await;
    let captured = refusal(captured.map(tonic::Response::new));
    assert_eq!(captured.field.as_deref(), Some("consistency"));
    let all = ok(api.snapshots.clone().list(v1::ListRequest::default()).await);
    assert!(all.items.is_empty() && agent.things("layer").is_empty(), "{all:?}");

    let made = snapshot(&api, &id).await;
    let of_it =
        capture_as(&api, Source::SnapshotId(id_of(made.metadata.as_ref())), false, "frozen");
    let of_it = refusal(of_it.await.map(tonic::Response::new));
    assert_eq!(of_it.field.as_deref(), Some("consistency"));
}
