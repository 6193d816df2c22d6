//! Key pairs: unique names, and instances that keep their keys.

use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, instance_spec, ok, refused, update_context};

#[tokio::test]
async fn a_name_is_taken_once_and_free_again_after_the_delete() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let longest_plain = "k".repeat(255);
    let longest_wide = "🔑".repeat(255);
    for name in ["me", "schlüssel 🔑 – 鍵", &longest_plain, &longest_wide] {
        let made = ok(api.key_pair(name).await);
        assert_eq!(made.spec.unwrap().key_name, name);
        let message = refused(api.key_pair(name).await, Reason::AlreadyExists, "key_name");
        assert!(message.contains(name), "{message}");
        let request = v1::ListRequest { name: name.to_owned(), ..Default::default() };
        assert_eq!(ok(api.key_pairs.clone().list(request).await).items.len(), 1);
        let id = made.metadata.unwrap().id;
        ok(api.key_pairs.clone().delete(v1::DeleteRequest { id }).await);
        ok(api.key_pair(name).await);
    }
    let too_long = "k".repeat(256);
    for name in ["", " me", "a\nb", &too_long] {
        refused(api.key_pair(name).await, Reason::InvalidArgument, "key_name");
    }
}

#[tokio::test]
async fn an_instance_keeps_the_keys_of_a_deleted_key_pair() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let pair = ok(api.key_pair("schlüssel").await).metadata.unwrap().id;
    let mut spec = instance_spec("web", &image);
    spec.key_names = vec!["schlüssel".to_owned()];
    let id = ok(api.create(spec.clone()).await).metadata.unwrap().id;
    api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();
    ok(api.key_pairs.clone().delete(v1::DeleteRequest { id: pair }).await);
    let running = api.instance(&id).await;
    assert_eq!(running.spec.as_ref().unwrap().key_names, ["schlüssel"]);
    // An update that leaves them alone does not ask for the key pair.
    spec.name = Some("renamed".to_owned());
    let context = update_context(running.metadata.as_ref());
    let request = v1::UpdateInstanceRequest { context, spec: Some(spec.clone()) };
    ok(api.instances.clone().update(request).await);
    // A new one does.
    refused(api.create(spec).await, Reason::NotFound, "key_names");
}
