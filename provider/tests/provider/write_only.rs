//! User data that are in no state.

use tfplugin::{Diagnostics, Value};

use crate::samples::full;
use crate::support::{Fake, connected, with};

const TYPE: &str = "weft_instance";

/// What the agent has.
fn held(fake: &Fake, id: &Value) -> Option<Vec<u8>> {
    let world = fake.world();
    world.instances[id.as_str().unwrap()].spec.as_ref().unwrap().user_data.clone()
}

fn secret(base: &Value, text: &str, version: u32) -> Value {
    let config = with(&with(base, "user_data", Value::Null), "user_data_wo", text);
    with(&config, "user_data_wo_version", version)
}

#[tokio::test]
async fn user_data_in_no_state_are_sent_once_for_each_version() {
    let (terraform, fake) = connected().await;
    let base = full(TYPE, &terraform, &fake).await;
    let made = terraform.create(TYPE, secret(&base, "one", 1)).await.unwrap();
    let id = made.get("id").clone();
    assert_eq!(held(&fake, &id), Some(b"one".to_vec()));
    for name in ["user_data", "user_data_base64", "user_data_wo"] {
        assert!(made.get(name).is_null(), "{name}");
    }

    // An update of something else sends what the instance has, whatever the configuration says.
    let renamed = with(&secret(&base, "two", 1), "name", "renamed");
    let made = terraform.update(&made, renamed.clone()).await.unwrap();
    assert_eq!(held(&fake, &id), Some(b"one".to_vec()));
    let made = terraform.refresh(&made).await.unwrap().unwrap();
    assert!(terraform.plan(TYPE, renamed, Some(&made)).await.unwrap().is_empty());

    let made = terraform.update(&made, secret(&base, "two", 2)).await.unwrap();
    assert_eq!(held(&fake, &id), Some(b"two".to_vec()));

    // Import knows the version, and gives nothing away.
    let imported = terraform.import(TYPE, id.as_str().unwrap()).await.unwrap().unwrap();
    assert!(!imported.value.to_string().contains("two"), "{}", imported.value);
    let plan = terraform.plan(TYPE, secret(&base, "two", 2), Some(&imported)).await.unwrap();
    assert!(plan.is_empty(), "{:?}", plan.action);

    terraform.update(&made, with(&base, "user_data", Value::Null)).await.unwrap();
    assert_eq!(held(&fake, &id), None);
}

#[tokio::test]
async fn user_data_in_no_state_go_with_a_version_and_with_no_other_form() {
    let (terraform, fake) = connected().await;
    let base = full(TYPE, &terraform, &fake).await;
    let said = |error: Diagnostics| error.to_string();
    let both = with(&secret(&base, "s3cret", 1), "user_data", "x");
    let error = said(terraform.validate(TYPE, both).await.unwrap_err());
    assert!(error.contains("Both user_data and user_data_wo are set"), "{error}");
    let bare = with(&secret(&base, "s3cret", 1), "user_data_wo_version", Value::Null);
    let error = said(terraform.validate(TYPE, bare).await.unwrap_err());
    assert!(error.contains("user_data_wo_version is missing"), "{error}");
    let empty = with(&secret(&base, "s3cret", 1), "user_data_wo", Value::Null);
    let error = said(terraform.plan(TYPE, empty.clone(), None).await.unwrap_err());
    assert!(error.contains("There are no user data of this version"), "{error}");
    // What it has it keeps: nothing is sent.
    let made = terraform.create(TYPE, secret(&base, "s3cret", 1)).await.unwrap();
    let renamed = with(&empty, "name", "renamed");
    let made = terraform.update(&made, renamed).await.unwrap();
    assert_eq!(held(&fake, made.get("id")), Some(b"s3cret".to_vec()));
    let next = with(&empty, "user_data_wo_version", 2);
    assert!(terraform.plan(TYPE, next, Some(&made)).await.is_err());

    let later = with(&secret(&base, "s3cret", 1), "user_data_wo", Value::Unknown);
    assert!(terraform.validate(TYPE, later).await.is_ok());
    let old = terraform.clone().without_write_only();
    let error = said(old.validate(TYPE, secret(&base, "s3cret", 1)).await.unwrap_err());
    assert!(error.contains("user_data_wo is write-only"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}
