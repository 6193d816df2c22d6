//! Whether all that a run plans finds room, on a fake host of 8192 MiB.

use tfplugin::testing::{Plan, State, Terraform};
use tfplugin::{Diagnostics, Value};

use crate::support::{Fake, attributes, connected, connected_with, provider, said, with};

const NO_ROOM: &str = "There is no room for all that this plan makes";

/// An instance with so much memory.
fn instance(memory_mib: u32) -> Value {
    attributes([
        ("image_id", "img-0000000000000000a".into()),
        ("vcpus", 1.into()),
        ("memory_mib", memory_mib.into()),
        ("wait_for", "none".into()),
    ])
}

async fn plan(terraform: &Terraform, config: Value) -> Result<Plan, Diagnostics> {
    terraform.plan("weft_instance", config, None).await
}

/// What the plan says about room.
async fn told(terraform: &Terraform, config: Value) -> Option<String> {
    let plan = plan(terraform, config).await.unwrap();
    let mut told = plan.warnings.iter().filter(|one| one.summary == NO_ROOM);
    told.next().map(|one| one.detail.clone())
}

async fn made(fake: &Fake, memory_mib: u32) -> State {
    let terraform = provider(fake, Value::Null).await;
    terraform.create("weft_instance", instance(memory_mib)).await.unwrap()
}

#[tokio::test]
async fn what_does_not_fit_beside_what_else_is_planned_is_told_once() {
    let (terraform, _fake) = connected().await;
    assert_eq!(told(&terraform, instance(5000)).await, None);
    let told_first = told(&terraform, instance(5000)).await.unwrap();
    let want =
        "take 10000 MiB of memory with what runs them, and 8192 of 8192 MiB are free on fake";
    assert!(told_first.contains(want), "{told_first}");
    assert_eq!(told(&terraform, instance(5000)).await, None, "it is said once");
    // Another run begins anew.
    let (another, _fake) = connected().await;
    assert_eq!(told(&another, instance(5000)).await, None);
}

#[tokio::test]
async fn a_stopped_instance_takes_no_room() {
    let (terraform, _fake) = connected().await;
    for _ in 0..3 {
        let stopped = with(&instance(5000), "power_state", "stopped");
        assert_eq!(told(&terraform, stopped).await, None);
    }
}

#[tokio::test]
async fn what_is_removed_counts_as_free_in_any_order() {
    let (terraform, fake) = connected().await;
    let old = made(&fake, 5000).await;
    assert!(told(&terraform, instance(5000)).await.is_some(), "beside the old one it does not fit");

    let terraform = provider(&fake, Value::Null).await;
    terraform.plan_destroy(&old).await.unwrap();
    assert_eq!(told(&terraform, instance(5000)).await, None);

    // The new one first: it waits for what else is planned.
    let terraform = provider(&fake, Value::Null).await;
    let (told, destroyed) =
        tokio::join!(told(&terraform, instance(5000)), terraform.plan_destroy(&old));
    destroyed.unwrap();
    assert_eq!(told, None);
}

#[tokio::test]
async fn what_is_replaced_or_resized_counts_once() {
    let (terraform, fake) = connected().await;
    let old = made(&fake, 5000).await;
    let changed = [
        with(&instance(6000), "private_ip", "172.31.0.99"),
        instance(6000),
        with(&instance(5000), "display", true),
    ];
    for config in changed {
        let terraform = provider(&fake, Value::Null).await;
        let plan = terraform.plan("weft_instance", config, Some(&old)).await.unwrap();
        assert!(!said(&plan.warnings).contains(NO_ROOM), "{}", said(&plan.warnings));
    }
    let plan = terraform.plan("weft_instance", instance(9000), Some(&old)).await.unwrap();
    assert!(said(&plan.warnings).contains(NO_ROOM), "{}", said(&plan.warnings));
}

#[tokio::test]
async fn what_was_made_is_no_plan_any_more() {
    let (terraform, _fake) = connected().await;
    let planned = plan(&terraform, instance(5000)).await.unwrap();
    terraform.apply(planned).await.into_result().unwrap();
    assert_eq!(told(&terraform, instance(3000)).await, None);
}

#[tokio::test]
async fn what_could_not_be_ordered_is_no_plan_any_more() {
    let (_, fake) = connected().await;
    let recorded = |memory_mib| with(&instance(memory_mib), "replace_on_image_change", false);
    let terraform = provider(&fake, Value::Null).await;
    let old = terraform.create("weft_instance", recorded(5000)).await.unwrap();
    let terraform = provider(&fake, Value::Null).await;
    // The image is looked for before anything is asked of the agent.
    let config = with(&recorded(6000), "image_id", "img-0000000000000dead");
    let planned = terraform.plan("weft_instance", config, Some(&old)).await.unwrap();
    let refused = terraform.apply(planned).await.into_result().unwrap_err();
    assert!(said(&refused).contains("does not exist"), "{}", said(&refused));
    assert_eq!(told(&terraform, instance(3000)).await, None);
}

#[tokio::test]
async fn plan_checks_says_whether_it_is_an_error() {
    let (strict, _fake) = connected_with(attributes([("plan_checks", "error".into())])).await;
    let refused = plan(&strict, instance(9000)).await.unwrap_err();
    assert!(said(&refused).contains(NO_ROOM), "{}", said(&refused));

    let (off, fake) = connected_with(attributes([("plan_checks", "off".into())])).await;
    plan(&off, instance(9000)).await.unwrap();
    assert!(!fake.world().calls.contains(&"Hosts.CheckPlacement"));
}

#[tokio::test]
async fn a_plan_with_much_room_asks_once() {
    let (terraform, fake) = connected().await;
    for _ in 0..4 {
        assert_eq!(told(&terraform, instance(128)).await, None);
    }
    let asked = |calls: &[&str]| calls.iter().filter(|one| **one == "Hosts.CheckPlacement").count();
    assert_eq!(asked(&fake.world().calls), 1);
}

#[tokio::test]
async fn a_replacement_that_does_not_fit_is_told() {
    let (_, fake) = connected().await;
    let old = made(&fake, 5000).await;
    let terraform = provider(&fake, Value::Null).await;
    let elsewhere = with(&instance(9000), "private_ip", "172.31.0.99");
    let plan = terraform.plan("weft_instance", elsewhere, Some(&old)).await.unwrap();
    assert!(said(&plan.warnings).contains(NO_ROOM), "{}", said(&plan.warnings));
}

#[tokio::test]
async fn a_replacement_that_somebody_asks_for_counts_once() {
    let (terraform, fake) = connected().await;
    let mut old = made(&fake, 5000).await;
    // As with -replace: the first plan finds nothing to do.
    old.tainted = true;
    let plan = terraform.plan("weft_instance", instance(5000), Some(&old)).await.unwrap();
    assert!(!said(&plan.warnings).contains(NO_ROOM), "{}", said(&plan.warnings));
    assert_eq!(told(&terraform, instance(3000)).await, None);
}
