//! Layers that nobody needs apart become one, on the simulated host: it refuses a guest that is told of
//! other layers than its disk was sealed into, and the removal of one that a disk lies over.

use v1::capture_request::Source;
use v1::wait_request::Until;
use weft_proto::v1;

use crate::support::{
    Agent, Api, context, delete, eventually, get, id_of, ok, refusal, stop_request, token,
};

pub(crate) fn of_instance(id: &str) -> v1::SnapshotSpec {
    v1::SnapshotSpec { instance_id: id.to_owned(), ..Default::default() }
}

fn of_volume(id: &str) -> v1::SnapshotSpec {
    v1::SnapshotSpec { volume_id: id.to_owned(), ..Default::default() }
}

/// So many snapshots, one after the other.
pub(crate) async fn snapshots(api: &Api, of: &v1::SnapshotSpec, count: usize) -> Vec<String> {
    let mut made = Vec::new();
    for _ in 0..count {
        let request = v1::CreateSnapshotRequest { context: context(), spec: Some(of.clone()) };
        let id = id_of(ok(api.snapshots.clone().create(request).await).metadata.as_ref());
        eventually("the snapshot is made", async || {
            let snapshot = ok(api.snapshots.clone().get(get(&id)).await);
            (snapshot.state == "completed").then_some(())
        })
        .await;
        made.push(id);
    }
    made
}

pub(crate) async fn forget(api: &Api, snapshots: &[String]) {
    for id in snapshots {
        ok(api.snapshots.clone().delete(delete(id)).await);
    }
}

pub(crate) async fn volume(api: &Api, snapshot_id: Option<String>) -> String {
    let spec = v1::VolumeSpec { size_gib: 1, snapshot_id, ..Default::default() };
    let request = v1::CreateVolumeRequest { context: context(), spec: Some(spec) };
    id_of(ok(api.volumes.clone().create(request).await).metadata.as_ref())
}

/// Waits until so many layers are left.
async fn layers(agent: &Agent, count: usize) {
    eventually(&format!("{count} layers are left"), async || {
        (agent.things("layer").len() == count).then_some(())
    })
    .await;
}

async fn ssh(api: &Api, id: &str) {
    api.wait(id, Until::WaitFor("ssh".to_owned())).await.unwrap();
}

#[tokio::test]
async fn what_deleted_snapshots_leave_becomes_one_layer_of_a_disk_in_use() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let instance = api.running("web", &api.image_id().await).await;
    let web = id_of(instance.metadata.as_ref());
    let vol = volume(&api, None).await;
    ok(api.attach_volume(&web, &vol, false).await);
    let of_root = snapshots(&api, &of_instance(&web), 8).await;
    let of_vol = snapshots(&api, &of_volume(&vol), 8).await;
    assert_eq!(agent.things("layer").len(), 16);

    // The newest snapshots stay, and show what they showed: all that is below them, in one layer.
    forget(&api, &of_root[..7]).await;
    forget(&api, &of_vol[..7]).await;
    layers(&agent, 2).await;
    let now = api.instance(&web).await;
    assert_eq!(now.metadata.unwrap().generation, instance.metadata.unwrap().generation);
    let copy = volume(&api, Some(of_vol[7].clone())).await;
    ok(api.attach_volume(&web, &copy, false).await);
    let source = Some(Source::SnapshotId(of_root[7].clone()));
    let request = v1::CaptureRequest { client_token: token(), source, ..Default::default() };
    let mut events = ok(api.images.clone().capture(request).await);
    let mut captured = None;
    while let Some(event) = events.message().await.unwrap() {
        captured = event.done.then_some(event.disk_sha256);
    }
    assert_eq!(captured.unwrap().len(), 64);

    ok(api.instances.clone().reboot(get(&web)).await);
    ssh(&api, &web).await;
    snapshots(&api, &of_instance(&web), 1).await;
    let attachment = format!("{web}/{vol}");
    ok(api.volume_attachments.clone().delete(delete(&attachment)).await);
    ok(api.attach_volume(&web, &vol, false).await);
}

#[tokio::test]
async fn a_disk_that_lies_over_too_many_layers_goes_on_once_snapshots_are_deleted() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    ok(api.instances.clone().stop(stop_request(&web)).await);
    api.wait(&web, Until::Stopped(true)).await.unwrap();
    let daily = snapshots(&api, &of_instance(&web), 32).await;
    let again = || v1::CreateSnapshotRequest { context: context(), spec: Some(of_instance(&web)) };
    let deep = refusal(api.snapshots.clone().create(again()).await);
    assert!(deep.message.contains("32 layers"), "{deep:?}");
    assert!(deep.remedy.unwrap().contains("delete snapshots"));

    // Every other one: no two layers next to each other but those could be one.
    let (gone, kept): (Vec<_>, Vec<_>) =
        daily.into_iter().enumerate().partition(|it| it.0 % 2 == 0);
    forget(&api, &gone.into_iter().map(|it| it.1).collect::<Vec<_>>()).await;
    eventually("there is place again", async || api.snapshots.clone().create(again()).await.ok())
        .await;
    assert_eq!(kept.len(), 16);
    layers(&agent, 17).await;
    ok(api.instances.clone().start(get(&web)).await);
    ssh(&api, &web).await;
}

#[tokio::test]
async fn a_merge_for_which_there_is_no_room_waits_and_the_doctor_says_so() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    agent.order(r#"{"orders": [{"step": "merge_layers", "fail": "the host's disk is full"}]}"#);
    let all = snapshots(&api, &of_instance(&web), 8).await;
    forget(&api, &all).await;
    let check = eventually("the doctor has seen it", async || {
        let checks = ok(api.hosts.clone().doctor(v1::DoctorRequest {}).await).checks;
        checks.into_iter().find(|check| check.name == "layers")
    })
    .await;
    assert_eq!(check.result, "warning");
    assert!(check.finding.contains("the host's disk is full"), "{check:?}");
    assert_eq!(agent.things("layer").len(), 8);
    ok(api.instances.clone().reboot(get(&web)).await);
    ssh(&api, &web).await;

    agent.order(r#"{"orders": []}"#);
    agent.kill();
    agent.start_again().await;
    layers(&agent, 1).await;
    let checks = ok(agent.api().await.hosts.clone().doctor(v1::DoctorRequest {}).await).checks;
    assert!(checks.iter().all(|check| check.name != "layers"), "{checks:?}");
}

#[tokio::test]
async fn layers_that_cannot_be_merged_are_left_and_those_above_them_are_merged() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    let encrypted = r#"{"orders": [
        {"step": "merge_layers", "fail": "it is encrypted", "retryable": false, "times": 2}
    ]}"#;
    agent.order(encrypted);
    let all = snapshots(&api, &of_instance(&web), 10).await;
    forget(&api, &all).await;
    // Two are left as they are, the other eight are one.
    layers(&agent, 3).await;
    ok(api.instances.clone().reboot(get(&web)).await);
    ssh(&api, &web).await;
}

#[tokio::test]
async fn a_guest_that_does_not_go_over_keeps_its_layers_until_it_ends() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    let refuses = r#"{"orders": [
        {"step": "use_merged_root", "fail": "QEMU refused", "retryable": false, "times": 1}
    ]}"#;
    agent.order(refuses);
    let all = snapshots(&api, &of_instance(&web), 8).await;
    forget(&api, &all).await;
    layers(&agent, 9).await;
    // Whatever has it looked at.
    snapshots(&api, &of_instance(&web), 1).await;
    assert_eq!(agent.things("layer").len(), 10);
    ok(api.instances.clone().reboot(get(&web)).await);
    ssh(&api, &web).await;
    layers(&agent, 2).await;
}
