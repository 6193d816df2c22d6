//! What an owner has ruled out: `apply_policy` and `termination_protection`.

use tfplugin::testing::{Action, State, Terraform};
use tfplugin::{Diagnostics, Severity, Value};

use crate::samples::least;
use crate::support::{Fake, connected, said, with};

async fn made(terraform: &Terraform, fake: &Fake, path: &str, value: Value) -> (Value, State) {
    let least = least("weft_instance", terraform, fake).await;
    let config = with(&least, path, value);
    let state = terraform.create("weft_instance", config.clone()).await.unwrap();
    (config, state)
}

fn places(refused: &Diagnostics) -> Vec<String> {
    let places = refused
        .iter()
        .filter(|one| one.severity == Severity::Error)
        .filter_map(|one| one.path.as_ref());
    places.map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_plan_does_no_more_than_the_policy_allows() {
    let (terraform, fake) = connected().await;
    let (config, state) = made(&terraform, &fake, "user_data", "one".into()).await;
    let replaced = Value::from("172.31.0.99");
    let changes: [(&str, &[(&str, Value)]); 5] = [
        ("live", &[("name", "renamed".into())]),
        ("restart", &[("vcpus", 2.into())]),
        ("restart", &[("display", true.into())]),
        ("restart", &[("user_data", "two".into())]),
        ("replace", &[("private_ip", replaced)]),
    ];
    for policy in [Value::Null, "allow_replace".into(), "allow_restart".into(), "live_only".into()]
    {
        for (does, change) in &changes {
            let mut config = with(&config, "apply_policy", policy.clone());
            for (path, value) in *change {
                config = with(&config, path, value.clone());
            }
            let allowed = match policy.as_str() {
                Some("live_only") => *does == "live",
                Some("allow_restart") => *does != "replace",
                _ => true,
            };
            let plan = terraform.plan("weft_instance", config, Some(&state)).await;
            let name = format!("{policy} {change:?}");
            match plan {
                Ok(plan) => {
                    assert!(allowed, "{name} was allowed");
                    let replaces = plan.action == Action::Replace;
                    assert_eq!(replaces, *does == "replace", "{name}");
                }
                Err(refused) => {
                    assert!(!allowed, "{name}: {}", said(&refused));
                    let told = said(&refused);
                    let (path, id) = (change[0].0, state.get("id"));
                    assert!(told.contains(&format!("{does}s the instance")), "{told}");
                    assert!(told.contains(id.as_str().unwrap()), "{told}");
                    assert!(told.contains(&format!("apply_policy = \"allow_{does}\"")), "{told}");
                    assert!(told.contains(&format!("ignore_changes = [{path}]")), "{told}");
                    assert_eq!(places(&refused), [path], "{name}");
                    let warned = refused.iter().any(|one| one.severity == Severity::Warning);
                    assert!(!warned, "{name} warns of what is refused: {told}");
                }
            }
        }
    }
}

#[tokio::test]
async fn growth_within_the_maxima_is_live_and_what_goes_beyond_them_is_refused() {
    let (terraform, fake) = connected().await;
    let least = least("weft_instance", &terraform, &fake).await;
    let of = |vcpus: u32, memory_mib: u32| {
        let values = [("vcpus", vcpus), ("memory_mib", memory_mib)];
        let maxima = [("max_vcpus", 4), ("max_memory_mib", 512)];
        let config = with(&least, "apply_policy", "live_only");
        values
            .iter()
            .chain(&maxima)
            .fold(config, |config, (path, value)| with(&config, path, Value::from(*value)))
    };
    let state = terraform.create("weft_instance", of(2, 256)).await.unwrap();
    let plan = terraform.plan("weft_instance", of(4, 512), Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Update);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let launched = plan.planned.get("launched_at").clone();
    assert_eq!(&launched, state.get("launched_at"), "nothing is started again");
    #[rustfmt::skip]
    let refused = [
        (of(1, 256), "vcpus",          "restarts the instance"),
        (of(2, 128), "memory_mib",     "restarts the instance"),
        (of(8, 256), "max_vcpus",      "max_vcpus (4) is less than vcpus (8)"),
        (of(2, 640), "max_memory_mib", "640 to 4194304"),
        (of(2, 300), "memory_mib",     "256 or 384"),
    ];
    for (config, path, told) in refused {
        let found = terraform.plan("weft_instance", config, Some(&state)).await.unwrap_err();
        assert!(said(&found).contains(told), "{}", said(&found));
        assert!(places(&found).contains(&path.to_owned()), "{:?}", places(&found));
    }
}

#[tokio::test]
async fn a_stopped_instance_is_resized_under_any_policy_as_nothing_restarts() {
    let (terraform, fake) = connected().await;
    let (config, state) = made(&terraform, &fake, "power_state", "stopped".into()).await;
    let config = with(&config, "apply_policy", "live_only");
    let config = with(&config, "vcpus", 2);
    terraform.plan("weft_instance", config, Some(&state)).await.unwrap();
}

#[tokio::test]
async fn a_protected_instance_is_neither_replaced_nor_destroyed_by_a_plan() {
    let (terraform, fake) = connected().await;
    let (config, state) = made(&terraform, &fake, "termination_protection", true.into()).await;
    let replaced = with(&config, "private_ip", "172.31.0.99");
    // Taking it off in the same plan is too late: the agent still has it when it is asked to delete.
    for protected in [true, false] {
        let config = with(&replaced, "termination_protection", protected);
        let refused = terraform.plan("weft_instance", config, Some(&state)).await.unwrap_err();
        let told = said(&refused);
        assert!(told.contains("protected from termination"), "{told}");
        assert!(told.contains("would be replaced, because of private_ip"), "{told}");
        assert!(told.contains("apply that, then plan again"), "{told}");
        assert!(!told.contains("This change replaces the instance"), "{told}");
    }
    let refused = terraform.plan_destroy(&state).await.unwrap_err();
    assert!(said(&refused).contains("would be destroyed"), "{}", said(&refused));

    let off = with(&config, "termination_protection", false);
    let plan = terraform.plan("weft_instance", off.clone(), Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Update);
    let state = terraform.apply(plan).await.into_result().unwrap().unwrap();
    terraform.plan("weft_instance", replaced.clone(), Some(&state)).await.unwrap();
    terraform.plan_destroy(&state).await.unwrap();
}
