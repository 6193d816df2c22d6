//! Snapshots of volumes, and volumes that are made from snapshots and images.

use weft_model::Reason;
use weft_proto::v1;

use v1::wait_request::Until;

use crate::support::{
    Agent, Api, context, delete, eventually, get, id_of, instance_spec, ok, refusal, refused,
    stop_request, update_context,
};

fn of(volume_id: &str) -> v1::CreateSnapshotRequest {
    let spec = v1::SnapshotSpec { volume_id: volume_id.to_owned(), ..Default::default() };
    v1::CreateSnapshotRequest { context: context(), spec: Some(spec) }
}

fn from(snapshot_id: &str, size_gib: u32) -> v1::VolumeSpec {
    let snapshot_id = Some(snapshot_id.to_owned());
    v1::VolumeSpec { size_gib, snapshot_id, ..Default::default() }
}

async fn made(api: &Api, spec: v1::VolumeSpec) -> String {
    let volume = ok(api.volume(spec).await);
    assert_eq!(volume.state, "available", "{:?}", volume.reason);
    id_of(volume.metadata.as_ref())
}

async fn empty(api: &Api) -> String {
    made(api, v1::VolumeSpec { size_gib: 2, ..Default::default() }).await
}

/// A snapshot that is made, or could not be.
async fn snapshot(api: &Api, volume_id: &str) -> v1::Snapshot {
    let asked = ok(api.snapshots.clone().create(of(volume_id)).await);
    let id = id_of(asked.metadata.as_ref());
    eventually("the snapshot is settled", async || {
        let snapshot = ok(api.snapshots.clone().get(get(&id)).await);
        (snapshot.state != "pending").then_some(snapshot)
    })
    .await
}

async fn completed(api: &Api, volume_id: &str) -> String {
    let snapshot = snapshot(api, volume_id).await;
    assert_eq!(snapshot.state, "completed", "{}", snapshot.reason);
    id_of(snapshot.metadata.as_ref())
}

#[tokio::test]
async fn a_volume_is_snapshotted_wherever_it_is_and_goes_on_above_its_layers() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let vol = empty(&api).await;
    completed(&api, &vol).await;
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    ok(api.attach_volume(&web, &vol, false).await);
    completed(&api, &vol).await;
    ok(api.instances.clone().stop(stop_request(&web)).await);
    api.wait(&web, Until::Stopped(true)).await.unwrap();
    completed(&api, &vol).await;
    assert_eq!(agent.things("layer").len(), 3);

    // The simulated host refuses a guest that is told of other layers than there are.
    ok(api.instances.clone().start(get(&web)).await);
    api.wait(&web, Until::WaitFor("ssh".to_owned())).await.unwrap();
    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    ok(api.volume_attachments.clone().delete(delete(&format!("{web}/{vol}"))).await);
    ok(api.attach_volume(&web, &vol, false).await);
    assert_eq!(ok(api.volumes.clone().get(get(&vol)).await).state, "in_use");
}

#[tokio::test]
async fn a_snapshot_outlives_its_volume_and_its_layers_go_with_the_last_that_needs_them() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let first = empty(&api).await;
    completed(&api, &first).await;
    let kept = completed(&api, &first).await;
    ok(api.volumes.clone().delete(delete(&first)).await);

    let copy = made(&api, from(&kept, 3)).await;
    let shown = ok(api.volumes.clone().get(get(&copy)).await).spec.unwrap();
    assert_eq!((shown.snapshot_id.as_deref(), shown.size_gib), (Some(&*kept), 3));
    let snapshots = ok(api.snapshots.clone().list(v1::ListRequest::default()).await).items;
    for one in snapshots {
        ok(api.snapshots.clone().delete(delete(&id_of(one.metadata.as_ref()))).await);
    }
    // What looks for layers that nobody needs has looked when a stray one is gone.
    let copy_of_copy = completed(&api, &copy).await;
    ok(api.snapshots.clone().delete(delete(&copy_of_copy)).await);
    assert_eq!(agent.things("layer").len(), 3, "the copy lies over them");
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    ok(api.attach_volume(&web, &copy, false).await);
    api.remove(&web).await;
    ok(api.volumes.clone().delete(delete(&copy)).await);
    eventually("the layers go", async || agent.things("layer").is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_volume_is_made_from_an_image_and_from_a_root_disk() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let of_image =
        |size_gib| v1::VolumeSpec { size_gib, image_id: Some(image.clone()), ..Default::default() };
    let vol = made(&api, of_image(1)).await;
    let web = id_of(api.running("web", &image).await.metadata.as_ref());
    let spec = v1::SnapshotSpec { instance_id: web.clone(), ..Default::default() };
    let request = v1::CreateSnapshotRequest { context: context(), spec: Some(spec) };
    let root = id_of(ok(api.snapshots.clone().create(request).await).metadata.as_ref());
    eventually("it is made", async || {
        let root = ok(api.snapshots.clone().get(get(&root)).await);
        (root.state == "completed").then_some(())
    })
    .await;
    let copy = made(&api, from(&root, 1)).await;
    ok(api.attach_volume(&web, &vol, false).await);
    ok(api.attach_volume(&web, &copy, false).await);
}

#[tokio::test]
async fn what_cannot_be_is_refused_at_its_field() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let nobody = "vol-0123456789abcdef0";
    refused(api.snapshots.clone().create(of(nobody)).await, Reason::NotFound, "volume_id");
    let missing = api.volume(from("snap-0123456789abcdef0", 1)).await;
    refused(missing, Reason::NotFound, "snapshot_id");
    let image_id = Some("img-0123456789abcdef0".to_owned());
    let missing = v1::VolumeSpec { size_gib: 1, image_id, ..Default::default() };
    refused(api.volume(missing).await, Reason::NotFound, "image_id");

    let vol = empty(&api).await;
    let kept = completed(&api, &vol).await;
    let small = api.volume(from(&kept, 1)).await;
    let message = refused(small, Reason::InvalidArgument, "size_gib");
    assert!(message.contains("needs 2 GiB, the volume would have 1"), "{message}");

    let shown = ok(api.volumes.clone().get(get(&vol)).await);
    let other = v1::VolumeSpec { snapshot_id: Some(kept.clone()), ..shown.spec.clone().unwrap() };
    let context = update_context(shown.metadata.as_ref());
    let request = v1::UpdateVolumeRequest { context, spec: Some(other) };
    let message =
        refused(api.volumes.clone().update(request).await, Reason::InvalidArgument, "snapshot_id");
    assert!(message.contains("cannot change"), "{message}");

    for _ in 1..32 {
        completed(&api, &vol).await;
    }
    let deep = refusal(api.snapshots.clone().create(of(&vol)).await);
    assert_eq!(deep.field.as_deref(), Some("volume_id"));
    assert!(deep.message.contains("32 layers"), "{deep:?}");
    assert!(deep.remedy.unwrap().contains("delete snapshots"));
    ok(api.volumes.clone().delete(delete(&vol)).await);
    refused(api.snapshots.clone().create(of(&vol)).await, Reason::NotFound, "volume_id");
}

#[tokio::test]
async fn a_snapshot_that_fails_says_why_and_the_volume_stays_usable() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let vol = empty(&api).await;
    agent.order(
        r#"{"orders": [{"step": "seal_volume", "fail": "the host's disk is full", "retryable": false}]}"#,
    );
    let failed = snapshot(&api, &vol).await;
    assert_eq!(failed.state, "error");
    assert!(failed.reason.contains("the host's disk is full"), "{failed:?}");
    let id = id_of(failed.metadata.as_ref());
    let message =
        refused(api.volume(from(&id, 2)).await, Reason::FailedPrecondition, "snapshot_id");
    assert!(message.contains("could not be made"), "{message}");
    agent.order(r#"{"orders": []}"#);
    assert!(agent.things("layer").is_empty());
    let web = v1::InstanceSpec {
        power_state: Some("running".to_owned()),
        ..instance_spec("web", &api.image_id().await)
    };
    let web = id_of(ok(api.create(web).await).metadata.as_ref());
    ok(api.attach_volume(&web, &vol, false).await);
    completed(&api, &vol).await;
}

#[tokio::test]
async fn a_snapshot_that_is_asked_for_is_made_before_a_guest_gets_the_volume_or_it_goes() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    let (there, gone) = (empty(&api).await, empty(&api).await);
    let orders = r#"{"orders": [{"step": "seal_volume", "fail": "not now", "times": 2}]}"#;
    agent.order(orders);
    for vol in [&there, &gone] {
        ok(api.snapshots.clone().create(of(vol)).await);
    }
    ok(api.attach_volume(&web, &there, false).await);
    ok(api.volumes.clone().delete(delete(&gone)).await);
    let snapshots = ok(api.snapshots.clone().list(v1::ListRequest::default()).await).items;
    let states: Vec<&str> = snapshots.iter().map(|it| it.state.as_str()).collect();
    assert_eq!(states, ["completed", "completed"], "{snapshots:?}");
}

#[tokio::test]
async fn a_volume_whose_guest_goes_before_it_was_frozen_is_not_taken_as_it_is() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let vol = empty(&api).await;
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    ok(api.attach_volume(&web, &vol, false).await);
    let later = r#"{"orders": [{"step": "seal_volume", "fail": "not now"}]}"#;
    agent.order(later);
    let mut frozen = of(&vol);
    frozen.spec.as_mut().unwrap().consistency = "frozen".to_owned();
    let asked = ok(api.snapshots.clone().create(frozen.clone()).await);
    let asked = id_of(asked.metadata.as_ref());
    api.remove(&web).await;
    agent.order(r#"{"orders": []}"#);
    let settled = async |id: &str| {
        eventually("the snapshot is settled", async || {
            let snapshot = ok(api.snapshots.clone().get(get(id)).await);
            (snapshot.state != "pending").then_some(snapshot)
        })
        .await
    };
    let made = settled(&asked).await;
    assert_eq!(made.state, "error");
    assert!(made.reason.contains("has it no more"), "{}", made.reason);
    assert!(agent.things("layer").is_empty());
    // Now nobody has it, and nobody has to be frozen.
    let again = v1::CreateSnapshotRequest { context: context(), ..frozen };
    let asked = ok(api.snapshots.clone().create(again).await);
    let made = settled(&id_of(asked.metadata.as_ref())).await;
    assert_eq!((made.state.as_str(), made.reason.as_str()), ("completed", ""));
}
