//! Hibernate, and Start that goes on from there.

use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, get, instance_spec, ok, refusal, stop_request, update_context};

fn ssh() -> Until {
    Until::WaitFor("ssh".to_owned())
}

/// The launch that booted the only guest.
fn booted_by(agent: &Agent) -> u64 {
    agent.things("guest")[0].1["booted_by"].as_u64().unwrap()
}

fn reason(instance: &v1::Instance) -> String {
    instance.status.as_ref().unwrap().reason.clone().unwrap_or_default()
}

#[tokio::test]
async fn a_hibernated_guest_goes_on_and_one_thrown_away_by_force_boots() {
    let agent = Agent::with(&["--sim-memory-mib", "1000"]).await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = api.running("web", &image).await.metadata.unwrap().id;
    let asleep = ok(api.instances.clone().hibernate(get(&id)).await);
    assert_eq!(asleep.status.as_ref().unwrap().state, "stopped");
    assert!(reason(&asleep).starts_with("hibernated"), "{}", reason(&asleep));
    assert_eq!(asleep.spec.as_ref().unwrap().power_state.as_deref(), Some("stopped"));
    assert_eq!(api.free_memory_mib().await, 1000, "it takes no memory of the host");
    // Again, and a stop, change nothing.
    ok(api.instances.clone().hibernate(get(&id)).await);
    let still = ok(api.instances.clone().stop(stop_request(&id)).await);
    assert!(reason(&still).starts_with("hibernated"));

    ok(api.instances.clone().start(get(&id)).await);
    api.wait(&id, ssh()).await.unwrap();
    let awake = api.instance(&id).await;
    assert_eq!((awake.status.as_ref().unwrap().epoch, booted_by(&agent)), (2, 1));
    assert_eq!(agent.things("guest")[0].1["memory"], false);
    assert_eq!(reason(&awake), "");

    ok(api.instances.clone().hibernate(get(&id)).await);
    let forced = v1::StopRequest { timeout_seconds: Some(0), ..stop_request(&id) };
    ok(api.instances.clone().stop(forced).await);
    crate::support::eventually("its memory is gone", async || {
        (agent.things("guest")[0].1["memory"] == false).then_some(())
    })
    .await;
    ok(api.instances.clone().start(get(&id)).await);
    api.wait(&id, ssh()).await.unwrap();
    assert_eq!(booted_by(&agent), 3);
    ok(api.instances.clone().hibernate(get(&id)).await);
    api.remove(&id).await;
    assert!(agent.things("guest").is_empty());
}

#[tokio::test]
async fn what_cannot_be_hibernated_says_why_and_runs_on() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = api.running("sim-no-hibernate", &image).await.metadata.unwrap().id;
    let problem = refusal(api.instances.clone().hibernate(get(&id)).await);
    assert_eq!(problem.reason, Reason::FailedPrecondition);
    assert!(problem.message.ends_with("its name says sim-no-hibernate"), "{problem}");
    api.wait(&id, ssh()).await.unwrap();
    let runs = api.instance(&id).await;
    assert_eq!(runs.spec.unwrap().power_state.as_deref(), Some("running"));
    assert_eq!(runs.assigned.unwrap().run_epoch, 1, "it was not started again");
    let list = v1::ListEventsRequest { subject: id.clone() };
    let events = ok(api.events.clone().list(list).await).items;
    assert_eq!(events.iter().map(|it| it.kind.as_str()).collect::<Vec<_>>(), ["not_hibernated"]);
    // One that is off has no memory to keep.
    ok(api.instances.clone().stop(stop_request(&id)).await);
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    let problem = refusal(api.instances.clone().hibernate(get(&id)).await);
    assert!(problem.message.contains("does not run"), "{problem}");
}

#[tokio::test]
async fn a_hibernated_instance_keeps_its_size_until_it_goes_on() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = api.running("web", &image).await.metadata.unwrap().id;
    let asleep = ok(api.instances.clone().hibernate(get(&id)).await);
    let mut spec = instance_spec("web", &image);
    spec.instance_type = Some("w1.micro".to_owned());
    let context = update_context(asleep.metadata.as_ref());
    let request = v1::UpdateInstanceRequest { context, spec: Some(spec) };
    let problem = refusal(api.instances.clone().update(request).await);
    assert_eq!(problem.field.as_deref(), Some("instance_type"));
    assert!(problem.message.contains("is hibernated"), "{problem}");
    assert!(problem.remedy.unwrap().contains("weft start"));
    // What is live is changed.
    let context = update_context(asleep.metadata.as_ref());
    let spec = Some(instance_spec("renamed", &image));
    ok(api.instances.clone().update(v1::UpdateInstanceRequest { context, spec }).await);
    assert!(reason(&api.instance(&id).await).starts_with("hibernated"));
}

#[tokio::test]
async fn an_agent_that_is_killed_in_the_middle_finds_its_guest_asleep_or_awake_and_loses_nothing() {
    let mut agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    let id = agent.api().await.running("web", &image).await.metadata.unwrap().id;
    for wait_ms in [0, 1, 2, 4, 8, 16, 32] {
        let api = agent.api().await;
        let asking = tokio::spawn({
            let (mut client, id) = (api.instances.clone(), id.clone());
            async move { drop(client.hibernate(get(&id)).await) }
        });
        tokio::time::sleep(std::time::Duration::from_millis(wait_ms)).await;
        agent.kill();
        drop(asking.await);
        agent.start_again().await;
        let api = agent.api().await;
        ok(api.instances.clone().hibernate(get(&id)).await);
        let starting = api.instances.clone().start(get(&id)).await;
        drop(starting);
        agent.kill();
        agent.start_again().await;
        let api = agent.api().await;
        ok(api.instances.clone().start(get(&id)).await);
        api.wait(&id, ssh()).await.unwrap();
        assert_eq!(booted_by(&agent), 1, "it booted again");
    }
}

#[tokio::test]
async fn guests_whose_memory_is_being_saved_hold_up_nobody_and_force_ends_one_at_once() {
    // One more than an agent works on at a time.
    const SLEEPERS: usize = 17;
    let agent = Agent::with(&["--sim-memory-mib", "65536"]).await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let mut sleepers = Vec::new();
    for number in 0..SLEEPERS {
        let name = format!("sleeper-{number}");
        sleepers.push(ok(api.create(instance_spec(&name, &image)).await).metadata.unwrap().id);
    }
    for id in &sleepers {
        api.wait(id, ssh()).await.unwrap();
    }
    agent.order(r#"{"orders": [{"step": "write_memory", "on": "sleeper-*", "hang": true}]}"#);
    let ask = |id: &String| {
        let (mut client, id) = (api.instances.clone(), id.clone());
        tokio::spawn(async move { client.hibernate(get(&id)).await })
    };
    let mut asked: Vec<_> = sleepers.iter().map(ask).collect();
    for id in &sleepers {
        crate::support::eventually("its memory is being saved", async || {
            let now = api.instance(id).await;
            let state = now.status.as_ref().unwrap().state.clone();
            (state == "stopping" && reason(&now) == "its memory is being saved").then_some(())
        })
        .await;
    }
    api.running("another", &image).await;

    let forced = v1::StopRequest { timeout_seconds: Some(0), ..stop_request(&sleepers[0]) };
    ok(api.instances.clone().stop(forced).await);
    api.wait(&sleepers[0], Until::Stopped(true)).await.unwrap();
    let problem = refusal(asked.remove(0).await.unwrap());
    assert!(problem.message.contains("was not hibernated"), "{problem}");
    let gone = asked.remove(0);
    api.remove(&sleepers[1]).await;
    refusal(gone.await.unwrap());

    agent.order(r#"{"orders": []}"#);
    for answer in asked {
        let asleep = ok(answer.await.unwrap());
        assert!(reason(&asleep).starts_with("hibernated"), "{}", reason(&asleep));
    }
    // What was thrown away boots, what was kept goes on.
    for (id, kept) in [(&sleepers[0], false), (&sleepers[2], true)] {
        ok(api.instances.clone().start(get(id)).await);
        api.wait(id, ssh()).await.unwrap();
        let guests = agent.things("guest");
        let guest = &guests.iter().find(|(guest, _)| guest == id).unwrap().1;
        assert_eq!(guest["booted_by"] == 1, kept, "{guest}");
    }
}

#[tokio::test]
async fn what_a_saved_memory_knows_of_is_neither_taken_away_nor_made_larger_before_it_goes_on() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let web = api.running("web", &image).await.metadata.unwrap().id;
    let spec = v1::VolumeSpec { size_gib: 1, ..v1::VolumeSpec::default() };
    let made = ok(api.volume(spec).await);
    let id = made.metadata.as_ref().unwrap().id.clone();
    let attachment = ok(api.attach_volume(&web, &id, false).await).metadata.unwrap().id;
    agent.order(r#"{"orders": [{"step": "write_memory", "on": "web", "hang": true}]}"#);
    let asking = tokio::spawn({
        let (mut client, web) = (api.instances.clone(), web.clone());
        async move { client.hibernate(get(&web)).await }
    });
    let grow = async || {
        let context = update_context(made.metadata.as_ref());
        let spec = Some(v1::VolumeSpec { size_gib: 2, ..made.spec.clone().unwrap() });
        api.volumes.clone().update(v1::UpdateVolumeRequest { context, spec }).await
    };
    let detach = async || {
        let request = v1::DeleteRequest { id: attachment.clone() };
        api.volume_attachments.clone().delete(request).await
    };
    let refuse = async || {
        let problem = refusal(grow().await);
        assert_eq!(problem.field.as_deref(), Some("size_gib"));
        assert!(problem.message.contains("is hibernated: no volume of it can grow"), "{problem}");
        let problem = refusal(detach().await);
        assert!(problem.message.contains("is hibernated: nothing can be detached"), "{problem}");
        assert!(problem.remedy.unwrap().contains("weft start"));
    };
    crate::support::eventually("its memory is being saved", async || {
        (reason(&api.instance(&web).await) == "its memory is being saved").then_some(())
    })
    .await;
    refuse().await;
    agent.order(r#"{"orders": []}"#);
    ok(asking.await.unwrap());
    refuse().await;

    ok(api.instances.clone().start(get(&web)).await);
    api.wait(&web, ssh()).await.unwrap();
    assert_eq!(booted_by(&agent), 1, "it booted again");
    ok(grow().await);
    assert_eq!(agent.things("volume")[0].1["size_bytes"], 2u64 << 30);
    ok(detach().await);
}
