//! Watching, history, compaction.

use futures::StreamExt;

use crate::{Revision, StoreError, Txn};

use super::{Subject, commit, next, seen_so_far, show};

pub(super) async fn listing_then_watching_misses_nothing(subject: &impl Subject) {
    const WRITES: usize = 200;
    let store = subject.store();
    let writer = {
        let store = subject.store();
        tokio::spawn(async move {
            for n in 0..WRITES {
                commit(&*store, Txn::new().put(format!("w/{}", n % 7), n.to_string())).await;
            }
        })
    };
    let mut listing = store.list("w/").await.unwrap();
    while listing.items.is_empty() {
        tokio::task::yield_now().await;
        listing = store.list("w/").await.unwrap();
    }
    let number = |value: &[u8]| String::from_utf8_lossy(value).parse::<usize>().unwrap();
    let mut last = listing.items.iter().map(|item| number(&item.value)).max().unwrap();
    let mut watch = store.watch_events("w/", listing.revision).await.unwrap();
    while last < WRITES - 1 {
        match next(&mut watch).await {
            crate::Event::Put(item) => {
                assert_eq!(number(&item.value), last + 1, "no gap, nothing twice");
                last += 1;
            }
            event @ crate::Event::Delete { .. } => panic!("nobody deleted: {event:?}"),
        }
    }
    writer.await.unwrap();
}

pub(super) async fn deletes_and_new_lives_are_seen(subject: &impl Subject) {
    let store = subject.store();
    let mut live = store.watch_events("", Revision::ABSENT).await.unwrap();
    let r1 = commit(&*store, Txn::new().put("a", "1").put("b", "1")).await;
    let r2 = commit(&*store, Txn::new().delete("a").delete("nothing").put("b", "2")).await;
    let r3 = commit(&*store, Txn::new().put("a", "3")).await;
    let want = vec![
        format!("+a=1@{r1}"),
        format!("+b=1@{r1}"),
        format!("-a@{r2}"),
        format!("+b=2@{r2}"),
        format!("+a=3@{r3}"),
    ];
    assert_eq!(seen_so_far(&*store, &mut live, "m1").await, want, "as they happen");
    let mut past = store.watch_events("", Revision::ABSENT).await.unwrap();
    for want in &want {
        assert_eq!(&show(&next(&mut past).await), want, "from the past");
    }
    let mut middle = store.watch_events("", r2).await.unwrap();
    assert_eq!(show(&next(&mut middle).await), want[4], "only what came after");
}

pub(super) async fn a_watcher_sees_its_prefix_only_in_order(subject: &impl Subject) {
    let store = subject.store();
    let mut watch = store.watch_events("a/", Revision::ABSENT).await.unwrap();
    let r1 = commit(&*store, Txn::new().put("a/x", "1").put("ab", "no").put("a/y", "1")).await;
    commit(&*store, Txn::new().put("b/x", "no").delete("ab")).await;
    let r3 = commit(&*store, Txn::new().delete("a/x")).await;
    let want = [format!("+a/x=1@{r1}"), format!("+a/y=1@{r1}"), format!("-a/x@{r3}")];
    assert_eq!(seen_so_far(&*store, &mut watch, "a/~").await, want);
}

/// More events than an engine would keep in memory or put on one page, some revisions wide.
pub(super) async fn a_slow_watcher_gets_everything(subject: &impl Subject) {
    const REVISIONS: usize = 60;
    const WIDE: usize = 100;
    let store = subject.store();
    let mut watch = store.watch_events("s/", Revision::ABSENT).await.unwrap();
    for n in 0..REVISIONS {
        let txn = (0..WIDE).fold(Txn::new(), |txn, k| txn.put(format!("s/{k:03}"), n.to_string()));
        commit(&*store, txn).await;
    }
    for n in 0..REVISIONS {
        for k in 0..WIDE {
            let event = next(&mut watch).await;
            assert_eq!(show(&event), format!("+s/{k:03}={n}@{}", event.revision()));
        }
    }
    assert_eq!(seen_so_far(&*store, &mut watch, "s/end").await, [""; 0]);
}

pub(super) async fn history_survives_reopening(mut subject: impl Subject) {
    let store = subject.store();
    let r1 = commit(&*store, Txn::new().put("a", "1")).await;
    let r2 = commit(&*store, Txn::new().delete("a")).await;
    let mut cut = store.watch_events("", r2).await.unwrap();
    drop(store);
    subject.reopen().await;
    let end = cut.next().await;
    assert!(matches!(end, Some(Err(_)) | None), "a watch of a closed store ends: {end:?}");
    let store = subject.store();
    let mut watch = store.watch_events("", Revision::ABSENT).await.unwrap();
    let want = [format!("+a=1@{r1}"), format!("-a@{r2}")];
    assert_eq!(seen_so_far(&*store, &mut watch, "m").await, want);
}

pub(super) async fn compacted_events_are_reported_as_gone(subject: &impl Subject) {
    let store = subject.store();
    let r1 = commit(&*store, Txn::new().put("a", "1")).await;
    let r2 = commit(&*store, Txn::new().put("a", "2")).await;
    let r3 = commit(&*store, Txn::new().put("b", "3")).await;
    store.compact(r2).await.unwrap();
    store.compact(r1).await.unwrap(); // Going back is no error, and brings nothing back.
    let gone = match store.watch_events("", r1).await {
        Err(error) => error,
        Ok(mut watch) => watch.next().await.unwrap().unwrap_err(),
    };
    assert!(
        matches!(gone, StoreError::Compacted { after, compacted } if after == r1 && compacted == r2),
        "{gone}"
    );
    let mut watch = store.watch_events("", r2).await.unwrap();
    assert_eq!(show(&next(&mut watch).await), format!("+b=3@{r3}"));
    let listing = store.list("").await.unwrap();
    assert_eq!(listing.items.len(), 2, "what is, stays");
    assert_eq!(listing.items[0].mod_revision, r2, "and keeps its revision");
}

pub(super) async fn an_idle_watcher_survives_compaction(subject: &impl Subject) {
    let store = subject.store();
    let mut watch = store.watch_events("quiet/", Revision::ABSENT).await.unwrap();
    let mut other = store.watch_events("loud", Revision::ABSENT).await.unwrap();
    assert!(futures::FutureExt::now_or_never(watch.next()).is_none(), "nothing happened yet");
    let last = {
        commit(&*store, Txn::new().put("quiet/first", "1")).await;
        next(&mut watch).await;
        commit(&*store, Txn::new().put("loud", "1")).await
    };
    // By now the watch may have passed over "loud": it has if it looks again.
    assert!(futures::FutureExt::now_or_never(watch.next()).is_none());
    next(&mut other).await;
    store.compact(last).await.unwrap();
    let r = commit(&*store, Txn::new().put("quiet/second", "2")).await;
    assert_eq!(show(&next(&mut watch).await), format!("+quiet/second=2@{r}"));
}

pub(super) async fn the_future_is_refused(subject: &impl Subject) {
    let store = subject.store();
    let head = commit(&*store, Txn::new().put("a", "1")).await;
    let future = Revision(head.0 + 1);
    let error = store.compact(future).await.unwrap_err();
    assert!(matches!(error, StoreError::FutureRevision { .. }), "{error}");
    let error = match store.watch_events("", future).await {
        Err(error) => error,
        Ok(mut watch) => watch.next().await.unwrap().unwrap_err(),
    };
    assert!(
        matches!(error, StoreError::FutureRevision { asked, head: at } if asked == future && at == head),
        "{error}"
    );
}

pub(super) async fn a_transaction_arrives_whole(subject: &impl Subject) {
    let store = subject.store();
    let mut live = store.watch("", Revision::ABSENT).await.unwrap();
    let writer = {
        let store = subject.store();
        tokio::spawn(async move {
            for n in 0..100 {
                let n = n.to_string();
                commit(&*store, Txn::new().put("a", &*n).put("b", &*n).put("c", &*n)).await;
            }
        })
    };
    let mut revisions = 0;
    while revisions < 100 {
        let events = live.next().await.unwrap().unwrap();
        assert!(!events.is_empty());
        for of_one in events.chunk_by(|a, b| a.revision() == b.revision()) {
            let keys: Vec<&str> = of_one.iter().map(crate::Event::key).collect();
            assert_eq!(keys, ["a", "b", "c"], "all of a transaction in one item");
            revisions += 1;
        }
    }
    writer.await.unwrap();
}
