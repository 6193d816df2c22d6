//! Leases.

use std::time::Duration;

use crate::{MAX_TXN_OPS, Revision, StoreError, Txn};

use super::{Subject, commit, keys, next, seen_so_far, show, value};

const TTL: Duration = Duration::from_secs(10);

pub(super) async fn a_lease_takes_its_keys_along(subject: &impl Subject) {
    let store = subject.store();
    let (short, long) =
        (store.grant_lease(TTL).await.unwrap(), store.grant_lease(3 * TTL).await.unwrap());
    assert_ne!(short, long);
    let txn = Txn::new().put_leased("a", "1", short).put_leased("b", "1", short);
    let revision = commit(&*store, txn.put_leased("c", "1", long).put("d", "1")).await;
    assert_eq!(store.get("a").await.unwrap().unwrap().lease, Some(short));
    subject.pass_time(TTL - Duration::from_secs(1)).await;
    assert_eq!(keys(&*store, "").await, ["a", "b", "c", "d"]);
    subject.pass_time(Duration::from_secs(2)).await;
    let mut watch = store.watch_events("", revision).await.unwrap();
    let mut gone = [show(&next(&mut watch).await), show(&next(&mut watch).await)];
    gone.sort();
    assert!(gone[0].starts_with("-a@") && gone[1].starts_with("-b@"), "{gone:?}");
    assert_eq!(keys(&*store, "").await, ["c", "d"]);
    let error = store.keep_alive(short).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSuchLease { lease } if lease == short), "{error}");
    let error = store.txn(Txn::new().put("e", "1").put_leased("f", "1", short)).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSuchLease { .. }), "{error}");
    assert_eq!(keys(&*store, "").await, ["c", "d"], "a refused transaction leaves nothing");
}

pub(super) async fn keeping_alive_keeps_the_keys(subject: &impl Subject) {
    let store = subject.store();
    let lease = store.grant_lease(TTL).await.unwrap();
    commit(&*store, Txn::new().put_leased("a", "1", lease)).await;
    for _ in 0..3 {
        subject.pass_time(TTL * 3 / 4).await;
        store.keep_alive(lease).await.unwrap();
    }
    assert!(value(&*store, "a").await.is_some());
    subject.pass_time(TTL * 5 / 4).await;
    assert!(value(&*store, "a").await.is_none());
}

pub(super) async fn a_revoked_lease_deletes_at_once(subject: &impl Subject) {
    let store = subject.store();
    let lease = store.grant_lease(TTL).await.unwrap();
    let before = commit(&*store, Txn::new().put_leased("a", "1", lease).put("b", "1")).await;
    store.revoke_lease(lease).await.unwrap();
    assert_eq!(keys(&*store, "").await, ["b"]);
    let mut watch = store.watch_events("", before).await.unwrap();
    assert_eq!(seen_so_far(&*store, &mut watch, "m").await, [format!("-a@{}", before.0 + 1)]);
    assert!(store.revoke_lease(lease).await.is_err(), "it is gone");
    assert_ne!(store.grant_lease(TTL).await.unwrap(), lease, "numbers are not used again");
}

pub(super) async fn a_put_without_lease_frees_the_key(subject: &impl Subject) {
    let store = subject.store();
    let lease = store.grant_lease(TTL).await.unwrap();
    commit(&*store, Txn::new().put_leased("a", "1", lease)).await;
    commit(&*store, Txn::new().put("a", "2")).await;
    subject.pass_time(2 * TTL).await;
    assert_eq!(value(&*store, "a").await.unwrap(), b"2");
}

pub(super) async fn a_lease_with_many_keys_ends_whole(mut subject: impl Subject) {
    let store = subject.store();
    let lease = store.grant_lease(TTL).await.unwrap();
    for block in 0..6 {
        let txn = (0..MAX_TXN_OPS)
            .fold(Txn::new(), |txn, n| txn.put_leased(format!("{block}/{n}"), "1", lease));
        commit(&*store, txn).await;
    }
    let mut live = store.watch_events("", Revision::ABSENT).await.unwrap();
    store.revoke_lease(lease).await.unwrap();
    assert_eq!(keys(&*store, "").await, [""; 0]);
    let deletes = |seen: Vec<String>| seen.iter().filter(|event| event.starts_with('-')).count();
    assert_eq!(deletes(seen_so_far(&*store, &mut live, "m1").await), 6 * MAX_TXN_OPS);
    drop(store);
    subject.reopen().await;
    let store = subject.store();
    let mut past = store.watch_events("", Revision::ABSENT).await.unwrap();
    assert_eq!(deletes(seen_so_far(&*store, &mut past, "m2").await), 6 * MAX_TXN_OPS);
}

pub(super) async fn leases_survive_reopening_with_their_whole_time(mut subject: impl Subject) {
    let store = subject.store();
    let lease = store.grant_lease(TTL).await.unwrap();
    commit(&*store, Txn::new().put_leased("a", "1", lease)).await;
    subject.pass_time(TTL * 3 / 4).await;
    drop(store);
    subject.reopen().await;
    let store = subject.store();
    subject.pass_time(TTL * 3 / 4).await;
    assert!(value(&*store, "a").await.is_some(), "a restart is a sign of life");
    subject.pass_time(TTL / 2).await;
    assert!(value(&*store, "a").await.is_none());
}
