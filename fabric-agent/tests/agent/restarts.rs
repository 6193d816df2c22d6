//! `auto_restart`, and what ends a guest: its kernel's panic, its hypervisor, itself.

use v1::wait_request::Until;
use weft_proto::v1;

use crate::support::{Agent, Api, eventually, instance_spec, ok, stop_request};

async fn create(api: &Api, name: &str, image: &str, policy: &str) -> String {
    let mut spec = instance_spec(name, image);
    spec.auto_restart = Some(policy.to_owned());
    ok(api.create(spec).await).metadata.unwrap().id
}

async fn events(api: &Api, id: &str) -> Vec<(String, String)> {
    let request = v1::ListEventsRequest::default();
    let list = ok(api.events.clone().list(request).await);
    let about = list.items.into_iter().filter(|event| event.subject == id);
    about.map(|event| (event.kind, event.message)).collect()
}

fn status(instance: &v1::Instance) -> &v1::InstanceStatus {
    instance.status.as_ref().unwrap()
}

#[tokio::test]
async fn a_panic_is_told_with_the_console_and_nothing_is_started_again_unasked() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = create(&api, "sim-panic", &image, "never").await;
    let problem = api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap_err();
    assert!(problem.message.ends_with("failed: the guest's kernel panicked"), "{problem}");
    let evidence = problem.evidence.unwrap();
    assert!(evidence.contains("Kernel panic - not syncing"), "{evidence}");
    eventually("its hypervisor is ended", async || {
        let guests = agent.things("guest");
        (guests[0].1["state"]["state"] == "exited").then_some(())
    })
    .await;
    let instance = api.instance(&id).await;
    assert_eq!(status(&instance).state, "failed");
    assert_eq!(status(&instance).reason.as_deref(), Some("the guest's kernel panicked"));
    let told = events(&api, &id).await;
    let want = ("guest_failure".to_owned(), "the guest's kernel panicked".to_owned());
    assert_eq!(told, [want]);
}

#[tokio::test]
async fn what_failed_once_is_started_again_as_a_new_launch_of_the_same_generation() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    for (name, how) in [("sim-panic-once", "kernel panicked"), ("sim-crash-once", "crashed")] {
        let id = create(&api, name, &image, "on_failure").await;
        api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();
        let instance = api.instance(&id).await;
        assert_eq!(instance.assigned.as_ref().unwrap().run_epoch, 2);
        assert_eq!(instance.metadata.as_ref().unwrap().generation, 1, "a plan would be stale");
        let now = status(&instance);
        assert_eq!((now.state.as_str(), &now.reason, now.epoch), ("running", &None, 2));
        let restarts = now.restarts.unwrap();
        assert_eq!((restarts.in_a_row, restarts.epoch, restarts.due_at_unix_ms), (1, 2, None));
        let told = events(&api, &id).await;
        let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["guest_failure", "restart"], "{told:?}");
        assert!(told[0].1.contains(how) && told[0].1.contains("after 1 s"), "{told:?}");
        assert!(told[1].1.starts_with("started again as launch 2"), "{told:?}");
    }
}

#[tokio::test]
async fn a_power_off_of_the_guests_own_is_repeated_by_always_alone() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let again = create(&api, "sim-powers-off-once", &image, "always").await;
    let down = create(&api, "sim-powers-off", &image, "on_failure").await;
    api.wait(&again, Until::WaitFor("ssh".to_owned())).await.unwrap();
    assert_eq!(status(&api.instance(&again).await).epoch, 2);
    api.wait(&down, Until::Stopped(true)).await.unwrap();
    let instance = api.instance(&down).await;
    assert_eq!(status(&instance).reason.as_deref(), Some("the guest powered off"));
    assert_eq!(instance.assigned.unwrap().run_epoch, 1);
    // And never what was stopped.
    ok(api.instances.clone().stop(stop_request(&again)).await);
    api.wait(&again, Until::Stopped(true)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(status(&api.instance(&again).await).state, "stopped");
}

#[tokio::test]
async fn what_fails_again_and_again_waits_longer_and_an_agent_that_is_killed_goes_on_counting() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = create(&api, "sim-crash", &image, "always").await;
    let counted = async |api: &Api, least: u32| {
        eventually("it was restarted often enough", async || {
            let instance = api.instance(&id).await;
            let restarts = status(&instance).restarts.unwrap_or_default();
            (restarts.in_a_row >= least && restarts.due_at_unix_ms.is_some()).then_some(instance)
        })
        .await
    };
    let second = counted(&api, 2).await;
    assert_eq!(status(&second).state, "starting", "it is neither down nor failed");
    let reason = status(&second).reason.clone().unwrap();
    assert!(reason.contains("after 2 s, restart 2 in a row"), "{reason}");
    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    let third = counted(&api, 3).await;
    let (restarts, epoch) =
        (status(&third).restarts.unwrap(), third.assigned.as_ref().unwrap().run_epoch);
    assert_eq!(u64::from(restarts.in_a_row), epoch, "no launch was lost or made twice");
    // A stop has the last word, also while it waits.
    ok(api.instances.clone().stop(stop_request(&id)).await);
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    let stopped = api.instance(&id).await;
    assert_eq!((status(&stopped).state.as_str(), &status(&stopped).reason), ("stopped", &None));
    api.remove(&id).await;
}
