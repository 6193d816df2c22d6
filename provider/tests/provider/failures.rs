//! What happens when something goes wrong on the way: nothing is lost, and the user is told.

use tfplugin::Value;
use tfplugin::testing::{Action, Terraform};
use weft_model::{Problem, Reason};

use crate::samples::{full, least};
use crate::support::{attributes, connected, said, with};

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
        fake.has_been_asked("Instances.Wait").await;
        terraform.interrupt().await;
    };
    let (applied, ()) = tokio::join!(applying, interrupting);
    let text = said(&applied.diagnostics);
    let told = "The instance is in the state, as tainted: the next apply replaces it";
    assert!(text.contains("was cancelled") && text.contains(told), "{text}");
    let state = applied.state.unwrap();
    assert!(state.tainted && state.get("id").is_set());
}

#[tokio::test]
async fn ctrl_c_in_a_delete_says_that_the_agent_goes_on() {
    let (terraform, fake) = connected().await;
    let config = full("weft_instance", &terraform, &fake).await;
    let state = terraform.create("weft_instance", config).await.unwrap();
    fake.world().wait_hangs = true;
    fake.world().calls.clear();
    let interrupting = async {
        fake.has_been_asked("Instances.Wait").await;
        terraform.interrupt().await;
    };
    let (gone, ()) = tokio::join!(terraform.destroy(&state), interrupting);
    let text = said(&gone.unwrap_err());
    assert!(text.contains("The agent goes on removing it"), "{text}");
    assert!(!text.contains("tainted"), "{text}");
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
async fn an_agent_that_cannot_just_now_is_asked_again_and_then_quoted() {
    let (terraform, fake) = connected().await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    fake.world().not_now = 2;
    terraform.create("weft_key_pair", config.clone()).await.unwrap();
    fake.world().not_now = u32::MAX;
    fake.world().calls.clear();
    let text = said(&terraform.create("weft_key_pair", config).await.unwrap_err());
    assert!(text.contains("The agent's store failed"), "{text}");
    assert_eq!(fake.world().calls, ["KeyPairs.Create"; 4]);
}

#[tokio::test]
async fn a_wait_that_the_agent_cannot_keep_is_asked_for_again_and_then_quoted() {
    let (terraform, fake) = connected().await;
    let config = full("weft_instance", &terraform, &fake).await;
    for (not_now, waits, fails) in [(2, 3, false), (u32::MAX, 4, true)] {
        let state = terraform.create("weft_instance", config.clone()).await.unwrap();
        fake.world().not_now = not_now;
        fake.world().calls.clear();
        let gone = terraform.destroy(&state).await;
        fake.world().not_now = 0;
        assert_eq!(fake.world().calls, vec!["Instances.Wait"; waits]);
        match gone {
            Ok(_) => assert!(!fails),
            Err(error) => assert!(fails && said(&error).contains("store failed"), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_delete_that_loses_races_is_repeated_a_few_times() {
    let (terraform, fake) = connected().await;
    let config = least("weft_key_pair", &terraform, &fake).await;
    for (lost, deletes, fails) in [(3, 4, false), (u32::MAX, 4, true)] {
        let state = terraform.create("weft_key_pair", config.clone()).await.unwrap();
        fake.world().stale_deletes = lost;
        fake.world().calls.clear();
        let gone = terraform.destroy(&state).await;
        assert_eq!(gone.is_err(), fails, "{lost}");
        assert_eq!(fake.world().calls, vec!["KeyPairs.Delete"; deletes]);
    }
}
