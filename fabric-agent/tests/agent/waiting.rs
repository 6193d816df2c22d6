//! A wait that fails says what was seen and what to do next.

use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, instance_spec, ok, refusal, rule_spec};

fn ssh() -> Until {
    Until::WaitFor("ssh".to_owned())
}

#[tokio::test]
async fn a_wait_that_times_out_carries_the_evidence() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let group = api.group("closed").await.metadata.unwrap().id;
    let mut spec = instance_spec("sim-no-ssh", &image);
    spec.security_group_ids = Some(v1::SecurityGroupIds { ids: vec![group.clone()] });
    let id = ok(api.create(spec).await).metadata.unwrap().id;
    api.wait(&id, Until::WaitFor("running".to_owned())).await.unwrap();
    let problem = api.wait_for(&id, ssh(), 1).await.unwrap_err();
    assert_eq!(problem.reason, Reason::DeadlineExceeded);
    assert!(
        problem.message.contains(&format!("{id} did not answer on SSH within 1 s")),
        "{problem}"
    );
    let evidence = problem.evidence.unwrap();
    for part in [
        "state: running",
        "last phase: signalled at ",
        "seen on port 22: the guest refuses the connection",
        "security groups: no rule admits port 22",
        "console, last lines:\n  | simulated guest, launch 1",
    ] {
        assert!(evidence.contains(part), "{part} is not in\n{evidence}");
    }
    assert!(problem.remedy.unwrap().contains(&format!("weft logs {id}")));

    // The verdict on the groups is theirs, not the wait's.
    ok(api.rule(rule_spec(&group, 22)).await);
    let evidence = api.wait_for(&id, ssh(), 1).await.unwrap_err().evidence.unwrap();
    assert!(evidence.contains("port 22 is admitted from 0.0.0.0/0"), "{evidence}");
    assert_eq!(api.instance(&id).await.status.unwrap().state, "running", "it is kept");
}

#[tokio::test]
async fn a_wait_for_nothing_for_nobody_or_for_nonsense_is_answered_at_once() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = ok(api.create(instance_spec("sim-no-ssh", &image)).await).metadata.unwrap().id;
    api.wait(&id, Until::WaitFor("none".to_owned())).await.unwrap();
    let nobody = "i-00000000000000000";
    assert_eq!(api.wait(nobody, ssh()).await.unwrap_err().reason, Reason::NotFound);
    api.wait(nobody, Until::Gone(true)).await.unwrap();
    let problem = api.wait(&id, Until::WaitFor("coffee".to_owned())).await.unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("wait_for"));
    let request = v1::WaitRequest { id, until: None, timeout_seconds: 1 };
    assert_eq!(refusal(api.instances.clone().wait(request).await).field.as_deref(), Some("until"));
}

#[tokio::test]
async fn a_wait_that_is_under_way_ends_with_the_agent() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let id = ok(api.create(instance_spec("sim-no-ssh", &image)).await).metadata.unwrap().id;
    let waiting = tokio::spawn({
        let (api, id) = (api.clone(), id.clone());
        async move { api.wait(&id, ssh()).await }
    });
    api.wait(&id, Until::WaitFor("running".to_owned())).await.unwrap();
    assert!(agent.end().await.success());
    waiting.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_wait_for_cloud_init_ends_with_what_the_guest_reports() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let word = |word: &str| Until::WaitFor(word.to_owned());
    let good = ok(api.create(instance_spec("good", &image)).await).metadata.unwrap().id;
    api.wait(&good, word("cloud_init")).await.unwrap();
    api.wait(&good, word("signal")).await.unwrap();
    let status = api.instance(&good).await.status.unwrap();
    assert_eq!(status.cloud_init.unwrap().outcome, "done");
    let phases: Vec<&str> = status.phases.iter().map(|record| record.phase.as_str()).collect();
    for phase in ["dhcp_or_imds", "cloud_init", "signalled"] {
        assert!(phases.contains(&phase), "{phase} is not in {phases:?}");
    }

    let spec = instance_spec("sim-cloud-init-fails", &image);
    let bad = ok(api.create(spec).await).metadata.unwrap().id;
    let problem = api.wait(&bad, word("cloud_init")).await.unwrap_err();
    assert_eq!(problem.reason, Reason::FailedPrecondition);
    let want = "scripts_user: the simulated user data failed";
    assert_eq!(problem.message, format!("cloud-init failed in instance {bad}: {want}"));
    let evidence = problem.evidence.unwrap();
    for part in ["seen on the network: it was given its address by DHCP, last at", want] {
        assert!(evidence.contains(part), "{part} is not in\n{evidence}");
    }
    assert!(problem.remedy.unwrap().contains("cloud-init status --long"));

    // What was reported is of one launch: the next one has to report anew.
    ok(api
        .instances
        .clone()
        .reboot(v1::GetRequest { id: good.clone(), ..Default::default() })
        .await);
    api.wait(&good, word("cloud_init")).await.unwrap();
    let again = api.instance(&good).await.status.unwrap();
    assert_eq!(again.epoch, 2);
    assert!(again.cloud_init.unwrap().at_unix_ms >= again.launched_at_unix_ms.unwrap() - 1000);
}

#[tokio::test]
async fn a_guest_that_does_not_signal_is_named_with_what_was_seen() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let signal = || Until::WaitFor("signal".to_owned());
    let spec = instance_spec("sim-no-signal", &image);
    let silent = ok(api.create(spec).await).metadata.unwrap().id;
    api.wait(&silent, Until::WaitFor("cloud_init".to_owned())).await.unwrap();
    let problem = api.wait_for(&silent, signal(), 1).await.unwrap_err();
    assert_eq!(problem.message, format!("instance {silent} did not signal within 1 s"));
    assert!(problem.evidence.unwrap().contains("cloud-init: done"));

    let spec = instance_spec("sim-signal-fails", &image);
    let failing = ok(api.create(spec).await).metadata.unwrap().id;
    let problem = api.wait(&failing, signal()).await.unwrap_err();
    let why = "the simulated service did not start";
    assert_eq!(problem.message, format!("instance {failing} signalled failure: {why}"));
}
