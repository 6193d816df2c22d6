//! Switching on and off.

use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{
    Agent, context, eventually, get, instance_spec, ok, refusal, refused, stop_request,
    update_context,
};

fn ssh() -> Until {
    Until::WaitFor("ssh".to_owned())
}

fn launched(instance: &v1::Instance) -> i64 {
    instance.status.as_ref().unwrap().launched_at_unix_ms.unwrap()
}

#[tokio::test]
async fn stop_start_and_reboot_are_launches_of_their_own() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let first = api.running("web", &image).await;
    let id = first.metadata.clone().unwrap().id;
    let stopped = ok(api.instances.clone().stop(stop_request(&id)).await);
    assert_eq!(stopped.spec.unwrap().power_state.as_deref(), Some("stopped"));
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    let status = api.instance(&id).await.status.unwrap();
    assert_eq!((status.state.as_str(), status.reason), ("stopped", None));
    // Again is no error; a reboot of what is off is.
    ok(api.instances.clone().stop(stop_request(&id)).await);
    let problem = refusal(api.instances.clone().reboot(get(&id)).await);
    assert_eq!(problem.reason, Reason::FailedPrecondition);
    assert!(problem.remedy.unwrap().contains("weft start"));

    let started = ok(api.instances.clone().start(get(&id)).await);
    assert_eq!(started.assigned.unwrap().run_epoch, 2);
    api.wait(&id, ssh()).await.unwrap();
    let second = api.instance(&id).await;
    assert!(launched(&second) > launched(&first));
    let again = ok(api.instances.clone().start(get(&id)).await);
    assert_eq!(again.assigned.unwrap().run_epoch, 2, "it runs already");

    let rebooted = ok(api.instances.clone().reboot(get(&id)).await);
    assert_eq!(rebooted.assigned.unwrap().run_epoch, 3);
    api.wait(&id, ssh()).await.unwrap();
    let third = api.instance(&id).await;
    assert!(launched(&third) > launched(&second));
    let status = third.status.unwrap();
    assert_eq!(status.epoch, 3);
    assert!(status.phases.is_sorted_by_key(|record| record.at_unix_ms), "{:?}", status.phases);
    assert_eq!(status.phases.iter().filter(|record| record.phase == "ssh_banner").count(), 1);
    assert_eq!(third.spec, first.spec);
}

#[tokio::test]
async fn one_that_is_made_stopped_is_started_on_demand() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let mut spec = instance_spec("web", &image);
    spec.power_state = Some("stopped".to_owned());
    let id = ok(api.create(spec).await).metadata.unwrap().id;
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    assert!(api.instance(&id).await.status.unwrap().launched_at_unix_ms.is_none());
    let problem = api.wait(&id, ssh()).await.unwrap_err();
    assert!(problem.message.contains("is stopped"), "{problem}");
    ok(api.instances.clone().start(get(&id)).await);
    api.wait(&id, ssh()).await.unwrap();
}

#[tokio::test]
async fn a_guest_that_crashes_leaves_a_failed_instance_that_an_update_starts_again() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = ok(api.create(instance_spec("sim-crash", &image)).await).metadata.unwrap().id;
    let problem = api.wait(&id, ssh()).await.unwrap_err();
    assert_eq!(problem.reason, Reason::FailedPrecondition);
    assert!(problem.message.contains("the simulated hypervisor crashed"), "{problem}");
    assert!(problem.evidence.unwrap().contains("state: failed"));
    assert!(problem.remedy.unwrap().contains(&format!("weft logs {id}")));
    let failed = api.instance(&id).await;
    let status = failed.status.clone().unwrap();
    assert_eq!(status.state, "failed");
    assert!(status.reason.unwrap().contains("crashed"));

    let mut spec = failed.spec.clone().unwrap();
    (spec.vcpus, spec.memory_mib) = (None, None);
    spec.name = Some("mended".to_owned());
    // With no word about power it stays as it is.
    spec.power_state = None;
    let context = update_context(failed.metadata.as_ref());
    let request = v1::UpdateInstanceRequest { context, spec: Some(spec.clone()) };
    let renamed = ok(api.instances.clone().update(request).await);
    assert_eq!(renamed.assigned.as_ref().unwrap().run_epoch, 1);
    spec.power_state = Some("running".to_owned());
    let context = update_context(renamed.metadata.as_ref());
    let request = v1::UpdateInstanceRequest { context, spec: Some(spec) };
    assert_eq!(ok(api.instances.clone().update(request).await).assigned.unwrap().run_epoch, 2);
    api.wait(&id, ssh()).await.unwrap();
    let status = api.instance(&id).await.status.unwrap();
    assert_eq!((status.state.as_str(), status.reason), ("running", None));
}

#[tokio::test]
async fn a_guest_that_ignores_the_power_button_is_ended_after_its_grace() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = api.running("sim-no-acpi", &image).await.metadata.unwrap().id;
    ok(api.instances.clone().stop(stop_request(&id)).await);
    let events = api.wait(&id, Until::Stopped(true)).await.unwrap();
    assert!(events.iter().any(|event| event.state == "stopping"), "{events:?}");
    // A reboot, and a delete, get there as well.
    ok(api.instances.clone().start(get(&id)).await);
    api.wait(&id, ssh()).await.unwrap();
    ok(api.instances.clone().reboot(get(&id)).await);
    api.wait(&id, ssh()).await.unwrap();
    assert_eq!(api.instance(&id).await.status.unwrap().epoch, 3);
    api.remove(&id).await;
}

#[tokio::test]
async fn a_running_instance_is_deleted_and_deleting_it_again_is_no_error_until_it_is_gone() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = api.running("sim-no-acpi", &image).await.metadata.unwrap().id;
    api.delete(&id).await;
    api.delete(&id).await;
    let deleting = api.instance(&id).await;
    assert!(deleting.metadata.as_ref().unwrap().deleting_since_unix_ms.is_some());
    for answer in [
        api.instances.clone().start(get(&id)).await,
        api.instances.clone().stop(stop_request(&id)).await,
        api.instances.clone().reboot(get(&id)).await,
    ] {
        let problem = refusal(answer);
        assert_eq!(problem.reason, Reason::FailedPrecondition);
        assert!(problem.message.contains("is being deleted"), "{problem}");
    }
    let problem = api.wait(&id, ssh()).await.unwrap_err();
    assert!(problem.message.contains("is being deleted"), "{problem}");
    let events = api.wait(&id, Until::Gone(true)).await.unwrap();
    assert!(events.last().unwrap().done);
    // Gone for those who ask later, too.
    api.wait(&id, Until::Gone(true)).await.unwrap();
    let again = api.instances.clone().delete(v1::DeleteRequest { id: id.clone() }).await;
    assert!(refused(again, Reason::NotFound, "id").contains(&id));
    assert!(agent.things("guest").is_empty());
}

#[tokio::test]
async fn one_that_is_deleted_while_it_starts_goes() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    for n in 0..20 {
        let made = ok(api.create(instance_spec(&format!("web-{n}"), &image)).await);
        api.delete(&made.metadata.unwrap().id).await;
    }
    for instance in api.list().await {
        api.wait(&instance.metadata.unwrap().id, Until::Gone(true)).await.unwrap();
    }
    assert!(api.list().await.is_empty());
    assert!(agent.things("guest").is_empty());
}

#[tokio::test]
async fn a_stop_has_its_own_time_and_one_by_force_has_none() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let stop = async |id: &str, seconds| {
        let request = v1::StopRequest { timeout_seconds: seconds, ..stop_request(id) };
        api.instances.clone().stop(request).await
    };
    // With an hour for each the test ends only where a stop follows its own.
    let mut spec = instance_spec("sim-no-acpi", &image);
    spec.shutdown_timeout_seconds = Some(3600);
    let id = ok(api.create(spec).await).metadata.unwrap().id;
    api.wait(&id, ssh()).await.unwrap();
    ok(stop(&id, Some(1)).await);
    let events = api.wait(&id, Until::Stopped(true)).await.unwrap();
    assert!(events.iter().any(|event| event.state == "stopping"), "{events:?}");
    ok(api.instances.clone().start(get(&id)).await);
    api.wait(&id, ssh()).await.unwrap();
    // One that is under way is cut short.
    ok(stop(&id, None).await);
    ok(stop(&id, Some(0)).await);
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    refused(stop(&id, Some(3601)).await, Reason::InvalidArgument, "timeout_seconds");

    // And what the instance says holds for reboots and deletions too.
    let mut spec = instance_spec("sim-no-acpi-either", &image);
    spec.shutdown_timeout_seconds = Some(0);
    let id = ok(api.create(spec).await).metadata.unwrap().id;
    api.wait(&id, ssh()).await.unwrap();
    ok(api.instances.clone().reboot(get(&id)).await);
    api.wait(&id, ssh()).await.unwrap();
    api.remove(&id).await;
}

#[tokio::test]
async fn a_reset_is_no_launch_and_needs_a_guest_that_runs() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let before = api.running("sim-no-acpi", &image).await;
    let id = before.metadata.clone().unwrap().id;
    let since = |agent: &Agent| {
        let guests = agent.things("guest");
        guests[0].1["state"]["since"].as_str().unwrap().to_owned()
    };
    let began = since(&agent);
    let reset = ok(api.instances.clone().reset(get(&id)).await);
    assert_eq!((reset.metadata, reset.assigned), (before.metadata, before.assigned));
    assert_ne!(since(&agent), began, "nothing was reset");
    assert_eq!(
        launched(&api.instance(&id).await),
        reset.status.unwrap().launched_at_unix_ms.unwrap()
    );
    ok(api
        .instances
        .clone()
        .stop(v1::StopRequest { timeout_seconds: Some(0), ..stop_request(&id) })
        .await);
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    let problem = refusal(api.instances.clone().reset(get(&id)).await);
    assert_eq!(problem.reason, Reason::FailedPrecondition);
    assert!(problem.message.contains("does not run"), "{problem}");
}

#[tokio::test]
async fn a_protected_instance_is_deleted_after_its_protection_is_off() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let mut spec = instance_spec("db", &image);
    spec.termination_protection = Some(true);
    let made = ok(api.create(spec.clone()).await);
    let id = made.metadata.clone().unwrap().id;
    let delete = async || api.instances.clone().delete(v1::DeleteRequest { id: id.clone() }).await;
    let problem = refusal(delete().await);
    assert_eq!(problem.reason, Reason::FailedPrecondition);
    assert_eq!(problem.field.as_deref(), Some("termination_protection"));
    assert!(problem.remedy.unwrap().contains("termination_protection = false"));
    spec.termination_protection = None;
    let context = update_context(made.metadata.as_ref());
    let request = v1::UpdateInstanceRequest { context, spec: Some(spec) };
    let now = ok(api.instances.clone().update(request).await);
    assert_eq!(now.assigned.unwrap().run_epoch, 1, "it is live");
    api.remove(&id).await;
}

/// What cannot be done with a disk keeps nobody from stopping the guest that has it.
#[tokio::test]
async fn a_guest_is_stopped_also_where_its_disk_can_neither_grow_nor_be_sealed() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let made = api.running("web", &image).await;
    let id = made.metadata.as_ref().unwrap().id.clone();
    let force = v1::StopRequest { timeout_seconds: Some(0), ..stop_request(&id) };

    agent.order(r#"{"orders": [{"step": "grow_root_disk", "fail": "no space left on device"}]}"#);
    let mut spec = instance_spec("web", &image);
    spec.root_volume_size_gib = Some(5);
    let request = v1::UpdateInstanceRequest {
        context: update_context(made.metadata.as_ref()),
        spec: Some(spec),
    };
    ok(api.instances.clone().update(request).await);
    eventually("it is told", async || {
        let status = api.instance(&id).await.status.unwrap();
        format!("{status:?}").contains("no space left").then_some(())
    })
    .await;
    ok(api.instances.clone().stop(force.clone()).await);
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    // Neither from being started again: it grows when it can.
    ok(api.instances.clone().start(get(&id)).await);
    api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();

    agent.order(r#"{"orders": [{"step": "seal_root_disk", "fail": "qemu did not answer"}]}"#);
    let spec = v1::SnapshotSpec { instance_id: id.clone(), ..v1::SnapshotSpec::default() };
    let request = v1::CreateSnapshotRequest { context: context(), spec: Some(spec) };
    let snapshot = ok(api.snapshots.clone().create(request).await).metadata.unwrap().id;
    ok(api.instances.clone().stop(force).await);
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    agent.order(r#"{"orders": []}"#);
    eventually("it is sealed without its guest", async || {
        let now = ok(api.snapshots.clone().get(get(&snapshot)).await);
        (now.state == "completed").then_some(())
    })
    .await;
}
