//! Volumes: their records, their disks, and what becomes of them when the agent dies.

use serde_json::json;
use weft_model::Reason;
use weft_proto::v1;

use v1::wait_request::Until;

use crate::support::{
    Agent, Api, delete, eventually, get, instance_spec, ok, refusal, refused, stop_request,
    update_context,
};

fn spec(size_gib: u32) -> v1::VolumeSpec {
    v1::VolumeSpec { size_gib, ..v1::VolumeSpec::default() }
}

/// What the simulated host has of volumes: ids and GiB.
fn disks(agent: &Agent) -> Vec<(String, u64)> {
    let things = agent.things("volume");
    things.iter().map(|(id, it)| (id.clone(), it["size_bytes"].as_u64().unwrap() >> 30)).collect()
}

#[tokio::test]
async fn a_volume_has_its_disk_when_create_answers_and_none_when_delete_does() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let made = ok(api.volume(v1::VolumeSpec { name: Some("data".to_owned()), ..spec(20) }).await);
    let id = made.metadata.as_ref().unwrap().id.clone();
    assert!(id.starts_with("vol-"), "{id}");
    assert_eq!(made.state, "available", "{:?}", made.reason);
    assert_eq!(made.spec.as_ref().unwrap().r#type.as_deref(), Some("standard"));
    assert_eq!(disks(&agent), [(id.clone(), 20)]);

    let renamed = v1::VolumeSpec { name: Some("log".to_owned()), ..made.spec.clone().unwrap() };
    let context = update_context(made.metadata.as_ref());
    let request = v1::UpdateVolumeRequest { context, spec: Some(renamed) };
    let now = ok(api.volumes.clone().update(request).await);
    assert_eq!(now.spec.as_ref().unwrap().name.as_deref(), Some("log"));
    let by_name = v1::ListRequest { name: "log".to_owned(), ..v1::ListRequest::default() };
    assert_eq!(ok(api.volumes.clone().list(by_name).await).items.len(), 1);

    ok(api.volumes.clone().delete(delete(&id)).await);
    assert_eq!(disks(&agent), []);
    refused(api.volumes.clone().get(get(&id)).await, Reason::NotFound, "id");
}

#[tokio::test]
async fn what_a_volume_cannot_be_is_refused_at_its_field() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    for size in [0, 65_537] {
        refused(api.volume(spec(size)).await, Reason::InvalidArgument, "size_gib");
    }
    let ssd = || v1::VolumeSpec { r#type: Some("ssd".to_owned()), ..spec(1) };
    let message = refused(api.volume(ssd()).await, Reason::InvalidArgument, "type");
    assert!(message.contains("no storage pool \"ssd\""), "{message}");

    let made = ok(api.volume(spec(2)).await);
    let update = |spec| v1::UpdateVolumeRequest {
        context: update_context(made.metadata.as_ref()),
        spec: Some(spec),
    };
    let shrunk = api.volumes.clone().update(update(spec(1))).await;
    let message = refused(shrunk, Reason::InvalidArgument, "size_gib");
    assert!(message.contains("has 2 GiB and cannot shrink to 1 GiB"), "{message}");
    let moved = v1::VolumeSpec { size_gib: 2, ..ssd() };
    refused(api.volumes.clone().update(update(moved)).await, Reason::InvalidArgument, "type");
}

#[tokio::test]
async fn disks_are_what_the_store_says_after_a_kill_whatever_was_there() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let kept = ok(api.volume(spec(1)).await).metadata.unwrap().id;
    let stray = "vol-0123456789abcdef0";
    agent.kill();
    // Left by an agent that was killed, whose store never knew of it.
    let reality = rusqlite::Connection::open(agent.state_dir().join("sim-host.db")).unwrap();
    let content = r#"{"pool":"standard","size_bytes":1073741824}"#;
    let sql = "INSERT INTO things VALUES ('volume', ?1, ?2)";
    reality.execute(sql, [stray, content]).unwrap();
    drop(reality);
    agent.start_again().await;
    eventually("the stray disk goes", async || (disks(&agent).len() == 1).then_some(())).await;
    assert_eq!(disks(&agent), [(kept.clone(), 1)]);

    // A disk that is lost is told, and never made anew: what was on it would seem to be gone.
    agent.kill();
    let reality = rusqlite::Connection::open(agent.state_dir().join("sim-host.db")).unwrap();
    reality.execute("DELETE FROM things WHERE kind = 'volume'", []).unwrap();
    drop(reality);
    agent.start_again().await;
    let api = agent.api().await;
    let lost = eventually("it is told", async || {
        let volume = ok(api.volumes.clone().get(get(&kept)).await);
        (volume.state == "error").then_some(volume)
    })
    .await;
    assert!(lost.reason.unwrap().contains("its disk is missing"));
    assert_eq!(disks(&agent), []);
    ok(api.volumes.clone().delete(delete(&kept)).await);
}

/// The volumes that the simulated guest has.
fn attached(agent: &Agent, instance: &str) -> Vec<String> {
    let guests = agent.things("guest");
    let guest = guests.iter().find(|(id, _)| id == instance).map(|(_, guest)| guest);
    let Some(volumes) = guest.and_then(|guest| guest["volumes"].as_array()) else { return vec![] };
    volumes.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

async fn volume(api: &Api) -> String {
    ok(api.volume(spec(1)).await).metadata.unwrap().id
}

#[tokio::test]
async fn a_volume_comes_to_a_guest_that_runs_and_goes_to_another_one() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let web = api.running("web", &image).await.metadata.unwrap().id;
    let vol = volume(&api).await;

    let made = ok(api.attach_volume(&web, &vol, false).await);
    let id = format!("{web}/{vol}");
    assert_eq!(made.metadata.unwrap().id, id);
    let serial = vol.replace('-', "");
    assert_eq!(made.device_path, format!("/dev/disk/by-id/virtio-{serial}"));
    assert_eq!(attached(&agent, &web), [vol.as_str()], "the answer comes when the guest has it");
    let shown = ok(api.volumes.clone().get(get(&vol)).await);
    assert_eq!((shown.state.as_str(), shown.instance_id.as_deref()), ("in_use", Some(&*web)));

    // It is one instance's, and named by those that it keeps from being removed.
    let other = api.running("other", &image).await.metadata.unwrap().id;
    for instance in [&web, &other] {
        let again = api.attach_volume(instance, &vol, false).await;
        let message = refused(again, Reason::AlreadyExists, "volume_id");
        assert!(message.contains(&format!("{web} (web)")), "{message}");
    }
    let message = refused(api.volumes.clone().delete(delete(&vol)).await, Reason::InUse, "id");
    assert!(message.contains(&format!("{web} (web)")), "{message}");

    // It is there after a kill of the agent, and after a stop and a start of the guest.
    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    ok(api.instances.clone().stop(stop_request(&web)).await);
    api.wait(&web, Until::Stopped(true)).await.unwrap();
    ok(api.instances.clone().start(get(&web)).await);
    api.wait(&web, Until::WaitFor("ssh".to_owned())).await.unwrap();
    assert_eq!(attached(&agent, &web), [vol.as_str()]);

    ok(api.volume_attachments.clone().delete(delete(&id)).await);
    assert_eq!(attached(&agent, &web), [""; 0], "the answer comes when the guest has let go of it");
    refused(api.volume_attachments.clone().get(get(&id)).await, Reason::NotFound, "id");
    ok(api.attach_volume(&other, &vol, false).await);
    assert_eq!(attached(&agent, &other), [vol.as_str()]);
    assert_eq!(disks(&agent), [(vol.clone(), 1)]);

    // It survives the instance, unless it was told to go with it.
    api.remove(&other).await;
    assert_eq!(ok(api.volumes.clone().get(get(&vol)).await).state, "available");
    ok(api.attach_volume(&web, &vol, true).await);
    api.remove(&web).await;
    eventually("it goes with the instance", async || disks(&agent).is_empty().then_some(())).await;
    // Its record goes after its disk.
    let gone = async || api.volumes.clone().get(get(&vol)).await.is_err().then_some(());
    eventually("and is forgotten", gone).await;
    refused(api.volumes.clone().get(get(&vol)).await, Reason::NotFound, "id");
}

#[tokio::test]
async fn a_guest_that_keeps_a_volume_is_told_of_and_gives_it_up_when_it_is_stopped() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let web = api.running("sim-keeps-volumes", &image).await.metadata.unwrap().id;
    let vol = volume(&api).await;
    ok(api.attach_volume(&web, &vol, false).await);
    let id = format!("{web}/{vol}");
    let kept = api.volume_attachments.clone().delete(delete(&id)).await;
    let problem = refusal(kept);
    assert_eq!(problem.reason, Reason::FailedPrecondition);
    let text = format!("{problem} {:?} {:?}", problem.remedy, problem.evidence);
    assert!(text.contains("has not let go of") && text.contains("unmount it"), "{text}");
    let again = api.attach_volume(&web, &vol, false).await;
    let message = refused(again, Reason::FailedPrecondition, "volume_id");
    assert!(message.contains("still being detached"), "{message}");

    ok(api.instances.clone().stop(stop_request(&web)).await);
    api.wait(&web, Until::Stopped(true)).await.unwrap();
    eventually("it is released", async || {
        let left = api.volume_attachments.clone().get(get(&id)).await;
        left.is_err().then_some(())
    })
    .await;
    ok(api.volumes.clone().delete(delete(&vol)).await);
}

#[tokio::test]
async fn what_cannot_be_attached_is_refused_at_its_end() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let stopped = v1::InstanceSpec {
        power_state: Some("stopped".to_owned()),
        ..instance_spec("web", &image)
    };
    let web = ok(api.create(stopped).await).metadata.unwrap().id;
    let vol = volume(&api).await;
    let nobody = ("i-0123456789abcdef0", "vol-0123456789abcdef0");
    refused(api.attach_volume(nobody.0, &vol, false).await, Reason::NotFound, "instance_id");
    refused(api.attach_volume(&web, nobody.1, false).await, Reason::NotFound, "volume_id");
    refused(
        api.attach_volume(&web, "eni-0123456789abcdef0", false).await,
        Reason::InvalidArgument,
        "volume_id",
    );
    for _ in 0..8 {
        let vol = volume(&api).await;
        ok(api.attach_volume(&web, &vol, false).await);
    }
    let ninth = api.attach_volume(&web, &vol, false).await;
    let message = refused(ninth, Reason::ResourceExhausted, "instance_id");
    assert!(message.contains("8 volumes"), "{message}");
}

#[tokio::test]
async fn a_volume_grows_on_the_shelf_and_in_a_guest_and_after_a_kill() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let made = ok(api.volume(spec(1)).await);
    let id = made.metadata.as_ref().unwrap().id.clone();
    let grow = async |api: &Api, size_gib| {
        let now = ok(api.volumes.clone().get(get(&id)).await);
        let spec = v1::VolumeSpec { size_gib, ..now.spec.clone().unwrap() };
        let context = update_context(now.metadata.as_ref());
        let request = v1::UpdateVolumeRequest { context, spec: Some(spec) };
        ok(api.volumes.clone().update(request).await).spec.unwrap().size_gib
    };
    assert_eq!(grow(&api, 2).await, 2);
    assert_eq!(disks(&agent), [(id.clone(), 2)], "the answer comes when it has grown");

    let image = api.image_id().await;
    let web = api.running("web", &image).await.metadata.unwrap().id;
    ok(api.attach_volume(&web, &id, false).await);
    assert_eq!(grow(&api, 3).await, 3);
    assert_eq!(disks(&agent), [(id.clone(), 3)]);
    assert_eq!(attached(&agent, &web), [id.as_str()]);

    // What the store knows is carried out by the next agent.
    agent.kill();
    let reality = rusqlite::Connection::open(agent.state_dir().join("sim-host.db")).unwrap();
    let content = r#"{"pool":"standard","size_bytes":1073741824}"#;
    reality.execute("UPDATE things SET content = ?1 WHERE kind = 'volume'", [content]).unwrap();
    drop(reality);
    agent.start_again().await;
    let grown = async || (disks(&agent) == [(id.clone(), 3)]).then_some(());
    eventually("it grows", grown).await;
}

#[tokio::test]
async fn a_step_that_fails_and_is_tried_again_says_nothing_against_a_sound_disk() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let made = ok(api.volume(spec(1)).await);
    let id = made.metadata.as_ref().unwrap().id.clone();
    agent.order(r#"{"orders": [{"step": "grow_volume", "fail": "another process has it open"}]}"#);
    let context = update_context(made.metadata.as_ref());
    let request = v1::UpdateVolumeRequest { context, spec: Some(spec(2)) };
    let ailing = ok(api.volumes.clone().update(request).await);
    assert_eq!(ailing.state, "available");
    assert_eq!(ailing.reason.as_deref(), Some("another process has it open"));
    let web = api.running("web", &api.image_id().await).await.metadata.unwrap().id;
    ok(api.attach_volume(&web, &id, false).await);
    agent.order(r#"{"orders": []}"#);
    let grown = async || (disks(&agent) == [(id.clone(), 2)]).then_some(());
    eventually("it grows", grown).await;
    eventually("nothing is wrong any more", async || {
        let now = ok(api.volumes.clone().get(get(&id)).await);
        (now.state == "in_use" && now.reason.is_none()).then_some(())
    })
    .await;

    // Where there is no disk, it is an error.
    agent.order(r#"{"orders": [{"step": "make_volume", "fail": "the disk is on fire"}]}"#);
    let failed = ok(api.volume(spec(1)).await);
    assert_eq!(failed.state, "error");
    assert_eq!(failed.reason.as_deref(), Some("the disk is on fire"));
    let failed_id = failed.metadata.as_ref().unwrap().id.clone();
    let refused = refusal(api.attach_volume(&web, &failed_id, false).await);
    assert_eq!(refused.field.as_deref(), Some("volume_id"));
    assert!(refused.message.contains("is in error"), "{refused}");
    assert!(refused.evidence.as_ref().unwrap().contains("on fire"), "{refused:?}");
}

/// What the simulated hypervisor keeps the disks of the only guest to: the root disk, and this volume.
fn limits_of(agent: &Agent, volume: &str) -> (serde_json::Value, serde_json::Value) {
    let guest = agent.things("guest").remove(0).1;
    (guest["root_limits"].clone(), guest["volume_limits"][volume].clone())
}

#[tokio::test]
async fn limits_of_disks_change_live_and_are_put_right_after_a_kill_and_a_restart() {
    let mut agent = Agent::start().await;
    let mut api = agent.api().await;
    let limited = v1::VolumeSpec { iops: Some(500), ..spec(1) };
    let id = ok(api.volume(limited).await).metadata.unwrap().id;
    let image = api.image_id().await;
    let web = api.running("web", &image).await.metadata.unwrap().id;
    ok(api.attach_volume(&web, &id, false).await);
    let (none, some) = (json!({}), json!({ "iops": 500 }));
    let seen = async || (limits_of(&agent, &id) == (none.clone(), some.clone())).then_some(());
    eventually("a volume that comes is limited", seen).await;

    let limit = async |api: &Api, iops: Option<u32>, throughput_mibps: Option<u32>| {
        let now = ok(api.volumes.clone().get(get(&id)).await);
        let spec = v1::VolumeSpec { iops, throughput_mibps, ..now.spec.clone().unwrap() };
        let context = update_context(now.metadata.as_ref());
        let request = v1::UpdateVolumeRequest { context, spec: Some(spec) };
        api.volumes.clone().update(request).await
    };
    let now = ok(limit(&api, Some(600), Some(7)).await).spec.unwrap();
    assert_eq!((now.iops, now.throughput_mibps), (Some(600), Some(7)));
    let both = json!({ "iops": 600, "throughput_mibps": 7 });
    assert_eq!(limits_of(&agent, &id), (none.clone(), both), "the answer comes when it holds");
    ok(limit(&api, None, Some(8)).await);
    let eight = json!({ "throughput_mibps": 8 });
    assert_eq!(limits_of(&agent, &id).1, eight);
    refused(limit(&api, Some(99), None).await, Reason::InvalidArgument, "iops");
    refused(limit(&api, None, Some(0)).await, Reason::InvalidArgument, "throughput_mibps");

    let instance = api.instance(&web).await;
    let mut spec = instance.spec.clone().unwrap();
    spec.root_volume_iops = Some(300);
    let context = update_context(instance.metadata.as_ref());
    let request = v1::UpdateInstanceRequest { context, spec: Some(spec) };
    let changed = ok(api.instances.clone().update(request).await);
    assert_eq!(changed.assigned.unwrap().run_epoch, 1, "it is not started again");
    let root = json!({ "iops": 300 });
    assert_eq!(limits_of(&agent, &id), (root.clone(), eight.clone()));

    // Whatever the hypervisor has, and whoever starts it, the store is right.
    agent.kill();
    let reality = rusqlite::Connection::open(agent.state_dir().join("sim-host.db")).unwrap();
    let sql = "UPDATE things SET content = json_remove(content, '$.root_limits', '$.volume_limits')
               WHERE kind = 'guest'";
    assert_eq!(reality.execute(sql, []).unwrap(), 1);
    drop(reality);
    agent.start_again().await;
    let right = async || (limits_of(&agent, &id) == (root.clone(), eight.clone())).then_some(());
    eventually("it is put right", right).await;
    api = agent.api().await;
    ok(api.instances.clone().reboot(get(&web)).await);
    let epoch = async || (api.instance(&web).await.status?.epoch == 2).then_some(());
    eventually("the next launch", epoch).await;
    eventually("the next guest is limited too", right).await;
}
