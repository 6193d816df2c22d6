//! Failures and delays that a test orders from the simulated host.

use v1::wait_request::Until;
use weft_proto::v1;

use crate::support::{Agent, eventually, instance_spec, ok, stop_request};

async fn running(agent: &Agent, id: &str) {
    agent.api().await.wait(id, Until::WaitFor("ssh".to_owned())).await.unwrap();
}

async fn make(agent: &Agent, name: &str, image: &str) -> String {
    ok(agent.api().await.create(instance_spec(name, image)).await).metadata.unwrap().id
}

#[tokio::test]
async fn a_step_fails_as_often_as_ordered_and_for_whom_it_was() {
    let agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    agent.order(r#"{"orders": [{"step": "make_root_disk", "on": "web-*", "times": 2, "fail": "the disk is on fire"}]}"#,
    );
    let (web, db) = (make(&agent, "web-1", &image).await, make(&agent, "db", &image).await);
    running(&agent, &db).await;
    running(&agent, &web).await;
    assert_eq!(agent.log().matches("obeying an order").count(), 2, "{}", agent.log());
}

#[tokio::test]
async fn a_final_failure_is_the_reason_that_a_client_is_told() {
    let agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    agent.order(r#"{"orders": [{"step": "start_guest", "on": "web", "fail": "no such machine type", "retryable": false}]}"#,
    );
    let web = make(&agent, "web", &image).await;
    let api = agent.api().await;
    let problem = api.wait(&web, Until::WaitFor("ssh".to_owned())).await.unwrap_err();
    assert!(format!("{problem:?}").contains("no such machine type"), "{problem:?}");
}

#[tokio::test]
async fn a_step_hangs_over_a_kill_of_the_agent_until_the_order_is_removed() {
    let mut agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    agent.order(r#"{"orders": [{"step": "start_guest", "on": "web", "hang": true}]}"#);
    let web = make(&agent, "web", &image).await;
    let obeyed = |agent: &Agent| agent.log().matches("obeying an order").count();
    eventually("the start hangs", async || (obeyed(&agent) == 1).then_some(())).await;
    agent.kill();
    agent.start_again().await;
    eventually("it hangs again", async || (obeyed(&agent) == 2).then_some(())).await;
    assert_ne!(agent.api().await.instance(&web).await.status.unwrap().state, "running");
    agent.order(r#"{"orders": []}"#);
    running(&agent, &web).await;
}

#[tokio::test]
async fn a_delay_comes_at_the_ordered_time_only() {
    let agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    agent.order(r#"{"orders": [{"step": "write_seed", "from": 2, "times": 1, "delay_ms": 50}]}"#);
    for name in ["a", "b", "c"] {
        let id = make(&agent, name, &image).await;
        running(&agent, &id).await;
    }
    assert_eq!(agent.log().matches("obeying an order").count(), 1, "{}", agent.log());
}

#[tokio::test]
async fn a_file_that_is_not_valid_is_named_in_the_log_and_by_the_doctor() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    agent.order(r#"{"orders": [{"step": "start_guest", "fails": "typo"}]}"#);
    let web = make(&agent, "web", &image).await;
    running(&agent, &web).await;
    assert!(agent.log().contains("unknown field `fails`"), "{}", agent.log());
    let checks = ok(api.hosts.clone().doctor(v1::DoctorRequest {}).await).checks;
    let check = checks.iter().find(|check| check.name == "sim-orders").unwrap();
    assert_eq!(check.result, "failed");
    assert!(check.finding.contains("sim-orders.json"), "{}", check.finding);
}

#[tokio::test]
async fn a_guest_that_cannot_be_looked_at_keeps_its_state_and_what_it_has_of_the_host() {
    let agent = Agent::with(&["--sim-memory-mib", "1000"]).await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let web = api.running("web", &image).await.metadata.unwrap().id;
    let free = api.free_memory_mib().await;
    assert!(free < 1000);
    agent.order(
        r#"{"orders": [{"step": "observe_guest", "on": "web", "fail": "its records are gone"}]}"#,
    );
    ok(api.instances.clone().stop(stop_request(&web)).await);
    // A pass looks twice: at its beginning and, as that failed, at its end.
    let obeyed = || agent.log().matches("obeying an order").count();
    eventually("three passes fail", async || (obeyed() >= 6).then_some(())).await;
    let now = api.instance(&web).await;
    assert_eq!(now.status.unwrap().state, "running");
    assert_eq!(api.free_memory_mib().await, free);
    agent.order(r#"{"orders": []}"#);
    api.wait(&web, Until::Stopped(true)).await.unwrap();
    assert_eq!(api.free_memory_mib().await, 1000);
}
