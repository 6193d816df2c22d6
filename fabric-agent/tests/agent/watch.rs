//! Watch: every change, in order, of the kinds that were asked for.

use std::collections::BTreeSet;

use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, instance_spec, ok, refusal, update_context};

/// Reads until `enough`.
async fn read(
    stream: &mut tonic::Streaming<v1::WatchChange>,
    enough: impl Fn(&v1::WatchChange) -> bool,
) -> Vec<v1::WatchChange> {
    let mut changes = Vec::new();
    loop {
        let change = stream.message().await.unwrap().unwrap();
        let last = enough(&change);
        changes.push(change);
        if last {
            return changes;
        }
    }
}

fn of(kinds: &[&str], from_revision: i64) -> v1::WatchRequest {
    v1::WatchRequest { from_revision, kinds: kinds.iter().map(ToString::to_string).collect() }
}

#[tokio::test]
async fn who_watches_and_then_lists_misses_nothing() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let before = ok(api.create(instance_spec("before", &image)).await).metadata.unwrap().id;
    let mut stream = ok(api.watch.clone().watch(of(&["instances"], 0)).await);
    let listed: BTreeSet<String> =
        api.list().await.into_iter().map(|instance| instance.metadata.unwrap().id).collect();
    assert!(listed.contains(&before));
    let mut made = BTreeSet::new();
    for n in 0..10 {
        let instance = ok(api.create(instance_spec(&format!("web-{n}"), &image)).await);
        made.insert(instance.metadata.unwrap().id);
    }
    ok(api.key_pair("not asked for").await);
    for id in made.iter().chain([&before]) {
        api.remove(id).await;
    }
    let mut gone = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut last = 0;
    while gone.len() < 11 {
        let change = stream.message().await.unwrap().unwrap();
        assert_eq!(change.kind, "instances");
        assert!(change.revision >= last, "{change:?} after {last}");
        last = change.revision;
        if change.deleted {
            gone.insert(change.id);
        } else {
            assert!(!gone.contains(&change.id), "{change:?} after it was gone");
            seen.insert(change.id);
        }
    }
    assert!(seen.is_superset(&made));
    assert!(gone.is_superset(&made) && gone.contains(&before));
}

#[tokio::test]
async fn a_watch_from_a_revision_tells_what_came_since_also_after_a_restart() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let mut stream = ok(api.watch.clone().watch(of(&[], 0)).await);
    let group = api.group("web").await;
    let id = group.metadata.as_ref().unwrap().id.clone();
    let first = read(&mut stream, |change| change.id == id).await.pop().unwrap();
    assert_eq!((first.kind.as_str(), first.deleted), ("security-groups", false));
    let mut context = update_context(group.metadata.as_ref());
    context.as_mut().unwrap().tags.insert("a".to_owned(), "b".to_owned());
    let request = v1::UpdateSecurityGroupRequest { context, spec: group.spec };
    ok(api.groups.clone().update(request).await);
    ok(api.groups.clone().delete(v1::DeleteRequest { id: id.clone() }).await);

    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    let mut stream = ok(api.watch.clone().watch(of(&["security-groups"], first.revision)).await);
    let changes = read(&mut stream, |change| change.deleted).await;
    assert_eq!(changes.len(), 3, "made, changed, gone: {changes:?}");
    assert!(changes.iter().all(|change| change.id == id));
    assert_eq!(changes[0], first);
}

#[tokio::test]
async fn a_revision_that_cannot_be_is_refused() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    for revision in [-1, i64::MIN, i64::MAX] {
        let problem = refusal(api.watch.clone().watch(of(&[], revision)).await);
        assert_eq!(problem.reason, Reason::InvalidArgument, "{revision}: {problem:?}");
        assert_eq!(problem.field.as_deref(), Some("from_revision"));
    }
}
