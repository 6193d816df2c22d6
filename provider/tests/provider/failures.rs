//! What happens when something goes wrong on the way: nothing is lost, and the user is told.

use std::time::Duration;

use tfplugin::testing::{Action, Terraform};
use tfplugin::{Diagnostics, Value};
use weft_model::{Problem, Reason};

use crate::samples::{full, least};
use crate::support::{attributes, connected, connected_with, provider, with};

fn said(diagnostics: &Diagnostics) -> String {
    diagnostics.iter().map(|d| format!("{}\n{}\n", d.summary, d.detail)).collect()
}

#[tokio::test]
async fn an_instance_that_is_not_ready_stays_in_the_state_with_the_evidence() {
    let (terraform, fake) = connected().await;
    let config = full("weft_instance", &terraform, &fake).await;
    let problem = Problem::new(Reason::DeadlineExceeded, "no SSH server answered within 300 s")
        .evidence("last phase: kernel\nconsole: Kernel panic")
        .remedy("run weft console to look");
    fake.world().wait_fails = Some(problem);
    let plan = terraform.plan("weft_instance", config.clone(), None).await.unwrap();
    let applied = terraform.apply(plan).await;
    let text = said(&applied.diagnostics);
    for part in ["is not ready", "last phase: kernel", "Kernel panic", "Run weft console to look"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let state = applied.state.unwrap();
    assert!(state.tainted && state.get("id").is_set());
    let plan = terraform.plan("weft_instance", config, Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Replace);
    terraform.destroy(&state).await.unwrap();
    assert!(fake.world().instances.is_empty());
}

#[tokio::test]
async fn ctrl_c_in_a_create_leaves_the_instance_tainted_in_the_state() {
    let (terraform, fake) = connected().await;
    let config = full("weft_instance", &terraform, &fake).await;
    fake.world().wait_hangs = true;
    let plan = terraform.plan("weft_instance", config, None).await.unwrap();
    let applying = terraform.apply(plan);
    let interrupting = async {
        while !fake.world().calls.contains(&"Instances.Wait") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        terraform.interrupt().await;
    };
    let (applied, ()) = tokio::join!(applying, interrupting);
    assert!(said(&applied.diagnostics).contains("was cancelled"), "{}", applied.diagnostics);
    let state = applied.state.unwrap();
    assert!(state.tainted && state.get("id").is_set());
}

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
async fn an_agent_that_comes_back_is_used_again_with_a_new_session() {
    let (terraform, fake) = connected().await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    let state = terraform.create("weft_key_pair", config.clone()).await.unwrap();
    fake.restart();
    assert!(terraform.refresh(&state).await.unwrap().is_some());
    terraform.create("weft_key_pair", config).await.unwrap();
    let world = fake.world();
    assert_eq!(world.sessions.iter().filter(|said| **said == "open").count(), 2);
    assert_ne!(world.created_in[0], world.created_in[1]);
}

#[tokio::test]
async fn reads_that_come_together_are_one_request() {
    let (terraform, fake) = connected().await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    let mut states = Vec::new();
    for _ in 0..20 {
        states.push(terraform.create("weft_key_pair", config.clone()).await.unwrap());
    }
    fake.world().calls.clear();
    let reads: Vec<_> = states
        .into_iter()
        .map(|state| {
            let terraform: Terraform = terraform.clone();
            tokio::spawn(async move {
                terraform.refresh(&state).await.unwrap().unwrap().value == state.value
            })
        })
        .collect();
    for read in reads {
        assert!(read.await.unwrap());
    }
    assert_eq!(fake.world().calls, ["KeyPairs.BatchGet"]);
}

#[tokio::test]
async fn an_update_of_something_that_changed_meanwhile_says_what_changed() {
    let (terraform, fake) = connected().await;
    let config = full("weft_security_group", &terraform, &fake).await;
    let state = terraform.create("weft_security_group", config.clone()).await.unwrap();
    let config = with(&config, "description", "mine");
    let plan = terraform.plan("weft_security_group", config, Some(&state)).await.unwrap();
    for group in fake.world().groups.values_mut() {
        group.spec.as_mut().unwrap().name = "theirs".to_owned();
        group.metadata.as_mut().unwrap().generation += 1;
    }
    let applied = terraform.apply(plan).await;
    let text = said(&applied.diagnostics);
    assert!(text.contains("name was \"web\" and is \"theirs\""), "{text}");
    assert_eq!(applied.state.unwrap().value, state.value);
}

#[tokio::test]
async fn an_update_whose_answer_was_lost_is_not_an_error() {
    let (terraform, fake) = connected().await;
    let config = full("weft_key_pair", &terraform, &fake).await;
    let state = terraform.create("weft_key_pair", config.clone()).await.unwrap();
    fake.world().lose_next_answer = true;
    let config = with(&config, "tags", Value::object([("a", "b")]));
    let state = terraform.update(&state, config).await.unwrap();
    assert_eq!(state.get("tags_all"), &Value::object([("a", "b")]));
    let updates = fake.world().calls.iter().filter(|call| **call == "KeyPairs.Update").count();
    assert_eq!(updates, 2);
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_was() {
    let (terraform, fake) = connected().await;
    let disk: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let path = fake.file("large.raw", &disk);
    let config = attributes([
        ("name", "large".into()),
        ("source_path", path.into()),
        ("default_user", "weft".into()),
    ]);
    fake.world().upload_breaks_after = Some(2_000_000);
    let state = terraform.create("weft_image", config).await.unwrap();
    let world = fake.world();
    assert_eq!(world.blobs[state.get("digest").as_str().unwrap()], disk);
    let begins = world.calls.iter().filter(|call| **call == "Images.BeginUpload").count();
    assert_eq!(begins, 2, "{:?}", world.calls);
}

#[tokio::test]
async fn a_group_in_use_names_its_users() {
    let (terraform, fake) = connected().await;
    let group = least("weft_security_group", &terraform, &fake).await;
    let group = terraform.create("weft_security_group", group).await.unwrap();
    let config = least("weft_instance", &terraform, &fake).await;
    let config = with(&config, "security_group_ids", vec![group.get("id").clone()]);
    let instance = terraform.create("weft_instance", config).await.unwrap();
    let text = said(&terraform.destroy(&group).await.unwrap_err());
    assert!(text.contains(instance.get("id").as_str().unwrap()), "{text}");
}

#[tokio::test]
async fn settings_that_are_not_known_yet_skip_connecting() {
    let terraform = Terraform::new(terraform_provider_weft::Weft::new(None));
    let settings = attributes([("endpoint", Value::Unknown), ("default_tags", Value::Unknown)]);
    terraform.configure(settings).await.unwrap();
    let config = attributes([
        ("image_id", Value::Unknown),
        ("instance_type", "w1.nano".into()),
        ("security_group_ids", Value::Unknown),
    ]);
    let plan = terraform.plan("weft_instance", config, None).await.unwrap();
    assert!(plan.planned.get("tags_all").is_unknown());
    assert_eq!(plan.planned.get("memory_mib").as_i64(), Some(128));
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
