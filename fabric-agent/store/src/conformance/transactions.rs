//! Items and transactions.

use std::collections::BTreeSet;

use futures::future::join_all;

use crate::{MAX_KEY_BYTES, MAX_TXN_BYTES, MAX_TXN_OPS, Revision, Store, StoreError, Txn};

use super::{Subject, commit, conflict, keys, value};

pub(super) async fn a_key_is_created_once(subject: &impl Subject) {
    let store = subject.store();
    assert_eq!(store.get("a").await.unwrap(), None);
    let first = commit(&*store, Txn::new().when_absent("a").put("a", "1")).await;
    let (key, expected, found) = conflict(&*store, Txn::new().when_absent("a").put("a", "2")).await;
    assert_eq!((key.as_str(), expected, found), ("a", Revision::ABSENT, first));
    let item = store.get("a").await.unwrap().unwrap();
    assert_eq!(item.value, b"1");
    assert_eq!((item.create_revision, item.mod_revision, item.lease), (first, first, None));
}

pub(super) async fn a_stale_comparison_is_refused(subject: &impl Subject) {
    let store = subject.store();
    let first = commit(&*store, Txn::new().put("a", "1")).await;
    let second = commit(&*store, Txn::new().when_at("a", first).put("a", "2")).await;
    assert!(second > first, "revisions grow");
    let (_, expected, found) = conflict(&*store, Txn::new().when_at("a", first).delete("a")).await;
    assert_eq!((expected, found), (first, second));
    commit(&*store, Txn::new().when_at("a", second).delete("a")).await;
    let (_, _, found) = conflict(&*store, Txn::new().when_at("a", second).put("a", "3")).await;
    assert_eq!(found, Revision::ABSENT, "a deleted key counts as absent");
    let again = commit(&*store, Txn::new().when_absent("a").put("a", "4")).await;
    assert_eq!(store.get("a").await.unwrap().unwrap().create_revision, again, "a new life");
}

pub(super) async fn several_keys_change_together_or_not_at_all(subject: &impl Subject) {
    let store = subject.store();
    let revision = commit(&*store, Txn::new().put("a", "1").put("b", "1").put("c", "1")).await;
    for item in store.list("").await.unwrap().items {
        assert_eq!(item.mod_revision, revision, "one transaction, one revision");
    }
    let mixed = Txn::new().when_at("a", revision).when_absent("b").put("a", "2").delete("c");
    let (key, _, _) = conflict(&*store, mixed).await;
    assert_eq!(key, "b", "the conflict names the condition that did not hold");
    assert_eq!(value(&*store, "a").await.unwrap(), b"1");
    assert_eq!(keys(&*store, "").await, ["a", "b", "c"]);
    assert_eq!(store.list("").await.unwrap().revision, revision, "a conflict is no revision");
}

pub(super) async fn a_transaction_without_effect_makes_no_revision(subject: &impl Subject) {
    let store = subject.store();
    let revision = commit(&*store, Txn::new().put("a", "1")).await;
    assert_eq!(commit(&*store, Txn::new()).await, revision);
    assert_eq!(commit(&*store, Txn::new().delete("nothing")).await, revision);
    assert_eq!(commit(&*store, Txn::new().when_at("a", revision)).await, revision);
    let same = commit(&*store, Txn::new().put("a", "1")).await;
    assert!(same > revision, "a put of the same value is a change");
}

pub(super) async fn malformed_transactions_are_refused(subject: &impl Subject) {
    let store = subject.store();
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    for key in ["", "with space", "ümlaut", "new\nline", "nul\0", "del\u{7f}", long.as_str()] {
        let error = store.txn(Txn::new().put(key, "1")).await.unwrap_err();
        assert!(matches!(error, StoreError::InvalidKey { .. }), "{key:?}: {error}");
        let error = store.txn(Txn::new().when_absent(key)).await.unwrap_err();
        assert!(matches!(error, StoreError::InvalidKey { .. }), "{key:?}: {error}");
        assert!(store.get(key).await.is_err(), "{key:?} cannot be read either");
    }
    let twice = store.txn(Txn::new().put("a", "1").delete("a")).await.unwrap_err();
    assert!(matches!(twice, StoreError::DuplicateKey { .. }), "{twice}");
    let many = (0..=MAX_TXN_OPS).fold(Txn::new(), |txn, n| txn.put(format!("k{n}"), "1"));
    let error = store.txn(many).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    let error = store.txn(Txn::new().put("a", vec![0; MAX_TXN_BYTES + 1])).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    assert_eq!(keys(&*store, "").await, [""; 0], "nothing of all that was kept");

    let longest = "k".repeat(MAX_KEY_BYTES);
    commit(&*store, Txn::new().put(longest.clone(), vec![0xff; MAX_TXN_BYTES])).await;
    assert_eq!(value(&*store, &longest).await.unwrap(), vec![0xff; MAX_TXN_BYTES]);
}

pub(super) async fn concurrent_increments_lose_nothing(subject: &impl Subject) {
    const WRITERS: usize = 16;
    const EACH: usize = 10;
    let store = subject.store();
    commit(&*store, Txn::new().put("n", "0")).await;
    join_all((0..WRITERS).map(|_| {
        let store = subject.store();
        tokio::spawn(async move {
            for _ in 0..EACH {
                increment(&*store).await;
            }
        })
    }))
    .await
    .into_iter()
    .for_each(|done| done.unwrap());
    assert_eq!(value(&*store, "n").await.unwrap(), (WRITERS * EACH).to_string().into_bytes());
}

async fn increment(store: &dyn Store) {
    loop {
        let item = store.get("n").await.unwrap().unwrap();
        let number: usize = String::from_utf8(item.value).unwrap().parse().unwrap();
        let txn = Txn::new().when_at("n", item.mod_revision).put("n", (number + 1).to_string());
        if store.txn(txn).await.unwrap().committed().is_some() {
            return;
        }
    }
}

pub(super) async fn a_thousand_creates_at_once_all_arrive(subject: &impl Subject) {
    let store = subject.store();
    let outcomes = join_all((0..1_000).map(|n| {
        // Every tenth comes too late, in the middle of the others.
        let key = format!("many/{}", n - n % 10 / 9);
        store.txn(Txn::new().when_absent(key.clone()).put(key, n.to_string()))
    }))
    .await;
    let revisions: Vec<_> =
        outcomes.into_iter().filter_map(|outcome| outcome.unwrap().committed()).collect();
    assert_eq!(revisions.len(), 900, "a conflict takes nobody else along");
    assert_eq!(revisions.iter().collect::<BTreeSet<_>>().len(), 900, "each has its own revision");
    assert_eq!(store.list("many/").await.unwrap().items.len(), 900);
}

pub(super) async fn prefixes_match_whole_text_only(subject: &impl Subject) {
    let store = subject.store();
    let all = ["!", "a", "a/", "a/b", "a/b/c", "a0", "aa", "b", "b~", "b~~", "~", "~~"];
    let txn = all.iter().fold(Txn::new(), |txn, key| txn.put(*key, "1"));
    commit(&*store, txn).await;
    #[rustfmt::skip]
    let cases: [(&str, &[&str]); 10] = [
        ("",      &all),
        ("a",     &["a", "a/", "a/b", "a/b/c", "a0", "aa"]),
        ("a/",    &["a/", "a/b", "a/b/c"]),
        ("a/b",   &["a/b", "a/b/c"]),
        ("b~",    &["b~", "b~~"]),
        ("~",     &["~", "~~"]),
        ("~~",    &["~~"]),
        ("~~~",   &[]),
        ("A",     &[]),
        ("%",     &[]),
    ];
    for (prefix, want) in cases {
        assert_eq!(keys(&*store, prefix).await, want, "prefix {prefix:?}");
    }
    assert!(store.list("no spaces").await.is_err());
}

pub(super) async fn everything_is_there_after_reopening(mut subject: impl Subject) {
    let store = subject.store();
    let first = commit(&*store, Txn::new().put("a", "1").put("b", vec![0, 255])).await;
    let second = commit(&*store, Txn::new().delete("a")).await;
    let before = store.list("").await.unwrap();
    drop(store);
    subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.list("").await.unwrap(), before);
    assert_eq!(before.revision, second);
    let (_, _, found) = conflict(&*store, Txn::new().when_absent("b").delete("b")).await;
    assert_eq!(found, first);
    assert!(commit(&*store, Txn::new().put("c", "1")).await > second, "revisions go on");
}
