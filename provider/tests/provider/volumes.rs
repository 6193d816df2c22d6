//! Volumes in plans and applies.

use tfplugin::Value;

use crate::samples::least;
use crate::support::{attributes, connected, with};

#[tokio::test]
async fn a_volume_that_shrinks_is_an_error_of_the_plan_unless_it_is_another_one() {
    let (terraform, fake) = connected().await;
    let small = least("weft_volume", &terraform, &fake).await;
    let large = with(&small, "size_gib", 5);
    let state = terraform.create("weft_volume", large.clone()).await.unwrap();
    let shrinks = terraform.plan("weft_volume", small.clone(), Some(&state)).await;
    let text = shrinks.unwrap_err().to_string();
    assert!(text.contains("has 5 GiB and cannot shrink to 1 GiB"), "{text}");
    assert!(text.contains("Set it to 5 or more"), "{text}");

    let elsewhere = with(&small, "type", "ssd");
    terraform.plan("weft_volume", elsewhere, Some(&state)).await.unwrap();
    let grows = with(&large, "size_gib", 6);
    let plan = terraform.plan("weft_volume", grows, Some(&state)).await.unwrap();
    assert_eq!(plan.action, tfplugin::testing::Action::Update);
}

#[tokio::test]
async fn a_volume_whose_disk_cannot_be_made_is_in_the_state_with_a_warning() {
    let (terraform, _fake) = connected().await;
    let config = attributes([("name", "disk-full".into()), ("size_gib", 1.into())]);
    let plan = terraform.plan("weft_volume", config, None).await.unwrap();
    let applied = terraform.apply(plan).await;
    assert!(applied.state.unwrap().get("id").is_set());
    let said = applied.diagnostics.to_string();
    assert!(said.contains("cannot be used") && said.contains("No space left"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_a_volume_is_refused_before_anything_is_asked() {
    let (terraform, _fake) = connected().await;
    let cases: [(&str, Value, &str); 4] = [
        ("size_gib", 0.into(), "whole number from 1 to 65536"),
        ("size_gib", 70_000.into(), "whole number from 1 to 65536"),
        ("type", "Fast SSD".into(), "name of a storage pool"),
        ("name", " x".into(), "outer spaces"),
    ];
    for (name, value, says) in cases {
        let config = with(&attributes([("size_gib", 1.into())]), name, value);
        let error = terraform.plan("weft_volume", config, None).await.unwrap_err().to_string();
        assert!(error.contains(says), "{name}: {error}");
    }
}
