//! One session for one run of Terraform, whatever happens to the agent.

use std::collections::BTreeSet;

use futures::future::join_all;
use tfplugin::Value;

use crate::samples::least;
use crate::support::{attributes, connected, connected_with, provider};

#[tokio::test]
async fn every_create_comes_in_the_session_that_ends_with_terraform() {
    let (terraform, fake) = connected().await;
    assert!(fake.world().sessions.is_empty(), "nothing was created yet");
    for type_name in ["weft_key_pair", "weft_instance"] {
        let config = least(type_name, &terraform, &fake).await;
        terraform.create(type_name, config).await.unwrap();
    }
    {
        let world = fake.world();
        assert_eq!(world.sessions, ["open"]);
        let session = &world.created_in[0];
        assert!(session.starts_with("session-"));
        assert!(world.created_in.iter().all(|created_in| created_in == session));
    }
    terraform.shutdown().await;
    assert_eq!(fake.world().sessions, ["open", "end"]);
}

#[tokio::test]
async fn an_agent_that_comes_back_goes_on_with_the_same_session() {
    let (terraform, fake) = connected().await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    let state = terraform.create("weft_key_pair", config.clone()).await.unwrap();
    fake.restart();
    assert!(terraform.refresh(&state).await.unwrap().is_some());
    terraform.create("weft_key_pair", config).await.unwrap();
    let world = fake.world();
    let opened: Vec<_> = world.sessions.iter().filter(|said| **said != "broken").collect();
    assert_eq!(opened, [&"open", &"again"]);
    assert_eq!(world.created_in[0], world.created_in[1]);
}

/// Terraform plans and applies with two providers: the second has not reached the agent yet.
#[tokio::test]
async fn an_agent_that_restarts_between_plan_and_apply_is_waited_for() {
    let settings = attributes([("plan_checks", "off".into())]);
    let (terraform, fake) = connected_with(settings).await;
    let config = attributes([("name", "n".into()), ("cidr_block", "10.0.0.0/16".into())]);
    fake.kill();
    let (created, ()) = tokio::join!(terraform.create("weft_vpc", config), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        fake.come_back();
    });
    created.unwrap();
}

#[tokio::test]
async fn a_plan_does_not_wait_for_an_agent_that_is_not_there() {
    let (terraform, fake) = connected().await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    let state = terraform.create("weft_key_pair", config).await.unwrap();
    // As long as the test may take, and longer.
    let patient = attributes([("request_timeout", "24h".into())]);
    let another = provider(&fake, patient).await;
    fake.kill();
    let said = another.refresh(&state).await.unwrap_err();
    assert!(said.to_string().contains("nobody listens"), "{said}");
}

#[tokio::test]
async fn a_session_whose_stream_broke_still_ends_gracefully() {
    let (terraform, fake) = connected().await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    terraform.create("weft_key_pair", config).await.unwrap();
    fake.restart();
    terraform.shutdown().await;
    assert_eq!(fake.world().sessions.last(), Some(&"end"));
    assert!(fake.world().alive.is_empty());
}

/// What such a Create may have made is in no state, and an end in good order would say that it is in one.
#[tokio::test]
async fn a_session_with_a_create_that_got_no_answer_is_left_to_die() {
    let impatient = attributes([("request_timeout", "1s".into())]);
    let (terraform, fake) = connected_with(impatient).await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    terraform.create("weft_key_pair", config.clone()).await.unwrap();
    fake.kill();
    terraform.create("weft_key_pair", config).await.unwrap_err();
    fake.come_back();
    terraform.shutdown().await;
    assert!(!fake.world().sessions.contains(&"end"), "{:?}", fake.world().sessions);
}

#[tokio::test]
async fn creates_that_are_refused_together_open_the_session_once_more() {
    let (terraform, fake) = connected().await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    terraform.create("weft_key_pair", config.clone()).await.unwrap();
    // Its stream is open, and yet the agent does not know the session.
    fake.world().alive.clear();
    let creates = (0..20).map(|_| terraform.create("weft_key_pair", config.clone()));
    for made in join_all(creates).await {
        made.unwrap();
    }
    let world = fake.world();
    assert_eq!(world.sessions, ["open", "again"]);
    assert_eq!(world.created_in.iter().collect::<BTreeSet<_>>().len(), 1);
}

#[tokio::test]
async fn a_session_that_the_agent_never_takes_is_an_error() {
    let (terraform, fake) = connected().await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    fake.world().sessions_die_at_once = true;
    let error = terraform.create("weft_key_pair", config).await.unwrap_err();
    assert!(error.to_string().contains("is not alive"), "{error}");
    assert_eq!(fake.world().sessions.len(), 4);
}

#[tokio::test]
async fn a_restart_among_twenty_creates_makes_twenty_objects_in_one_session() {
    let (terraform, fake) = connected().await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    let creates = (0..20).map(|_| terraform.create("weft_key_pair", config.clone()));
    let restarting = async {
        fake.has_been_asked("KeyPairs.Create").await;
        fake.restart();
    };
    let (made, ()) = tokio::join!(join_all(creates), restarting);
    let ids: BTreeSet<String> =
        made.into_iter().map(|made| made.unwrap().get("id").as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 20);
    let sessions: BTreeSet<String> = fake.world().created_in.iter().cloned().collect();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
}

#[tokio::test]
async fn a_second_configuration_ends_the_first_session() {
    let (terraform, fake) = connected_with(Value::Null).await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    terraform.create("weft_key_pair", config).await.unwrap();
    let settings = attributes([("endpoint", fake.endpoint().into())]);
    terraform.configure(settings).await.unwrap();
    assert_eq!(fake.world().sessions, ["open", "end"]);
    drop(provider(&fake, Value::Null).await);
}
