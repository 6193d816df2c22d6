//! Identities, and what comes with them: import by identity, `moved` blocks.

use super::*;

#[tokio::test]
async fn an_identity_is_there_from_the_creation_on_and_stays() {
    let terraform = Terraform::new(Shop::default());
    let disk = created(&terraform, "a").await;
    let known_by = Value::object([("id", Value::from("disk-a")), ("pool", Value::Null)]);
    assert_eq!(disk.identity, Some(known_by.clone()));
    let disk = terraform.update(&disk, named("b")).await.unwrap();
    let disk = terraform.refresh(&disk).await.unwrap().unwrap();
    assert_eq!(disk.identity, Some(known_by));
    // Written before there were identities: it has one after the next read.
    let old = State { identity: None, ..disk.clone() };
    assert!(terraform.plan(DISK, named("b"), Some(&old)).await.unwrap().is_empty());
    assert_eq!(terraform.refresh(&old).await.unwrap().unwrap(), disk);
    terraform.destroy(&disk).await.unwrap();
}

#[tokio::test]
async fn a_failed_creation_has_an_identity_if_it_came_so_far() {
    let terraform = Terraform::new(Shop::default());
    let plan = terraform.plan(DISK, named("fails"), None).await.unwrap();
    let disk = terraform.apply(plan).await.state.unwrap();
    assert_eq!(disk.identity.unwrap().get("id").as_str(), Some("disk-fails"));
}

#[tokio::test]
async fn an_identity_that_changes_is_a_mistake_of_the_provider() {
    let terraform = Terraform::new(Shop::default());
    let disk = created(&terraform, "other").await;
    let error = terraform.refresh(&disk).await.unwrap_err();
    assert!(error.to_string().contains("The provider changed an identity"), "{error}");
}

#[tokio::test]
async fn import_by_identity_is_import_by_the_attributes_of_that_name() {
    let terraform = Terraform::new(Shop::default());
    let id = |id: &str| Value::object([("id", id)]);
    let disk = terraform.import_by_identity(DISK, id("disk-7")).await.unwrap().unwrap();
    assert_eq!(disk, terraform.import(DISK, "disk-7").await.unwrap().unwrap());
    assert_eq!(terraform.import_by_identity(DISK, id("disk-gone")).await.unwrap(), None);
    let nothing = Value::object([("pool", "fast")]);
    let error = terraform.import_by_identity(DISK, nothing).await.unwrap_err();
    assert!(error.to_string().contains("Its identity does not say id"), "{error}");
}

#[tokio::test]
async fn stored_identities_are_read_upgraded_or_refused() {
    let terraform = Terraform::new(Shop::default());
    let known_by = Value::object([("id", Value::from("disk-7")), ("pool", Value::Null)]);
    for (version, stored) in
        [(1, json!({ "id": "disk-7", "shelf": "gone" })), (0, json!({ "number": "7" }))]
    {
        let read = terraform.upgrade_identity(DISK, version, &stored).await.unwrap();
        assert_eq!(read, known_by);
    }
    let refused = async |version, stored, says: &str| {
        let error = terraform.upgrade_identity(DISK, version, &stored).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    };
    refused(2, json!({}), "too new").await;
    refused(0, json!({}), "It does not say id").await;
}

#[tokio::test]
async fn a_moved_block_hands_over_what_the_provider_takes() {
    let terraform = Terraform::new(Shop::default());
    let source = |type_name: &str| MoveSource {
        provider: "example.com/acme/depot".to_owned(),
        type_name: type_name.to_owned(),
        schema_version: 0,
        state: json!({ "number": "7" }),
        identity: None,
        private: Vec::new(),
    };
    let moved = terraform.take_over(DISK, &source("shop_crate")).await.unwrap().unwrap();
    assert_eq!(moved, terraform.import(DISK, "disk-7").await.unwrap().unwrap());
    let error = terraform.take_over(DISK, &source("shop_box")).await.unwrap_err();
    let said = "shop_disk does not take over the states of shop_box of example.com/acme/depot";
    assert!(error.to_string().contains(said), "{error}");
}
