//! How much of the store metering reads and writes, and for how long the books are closed to others.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;
use weft_metering::{DailySum, Entry, Item, Labels, Meter};
use weft_model::{Reason, Record, Timestamp, VolumeId, VolumeSpec};
use weft_store::{
    LeaseId, Listing, MAX_TXN_OPS, Revision, SqliteOptions, SqliteStore, Store, StoreError,
    TxnOutcome, WatchStream,
};

use super::*;
use crate::metering::books::{Draft, MeterKey};
use crate::repo::{USAGE_DAYS, USAGE_OPEN};

/// A store that counts what is asked of it.
#[derive(Debug)]
struct Counting {
    inner: SqliteStore,
    listed: Mutex<Vec<String>>,
    /// Changes of each transaction.
    written: Mutex<Vec<usize>>,
    /// A listing of this prefix is answered late.
    slow: Mutex<Option<String>>,
    has_listed: Notify,
    goes_on: Notify,
}

impl Counting {
    fn open(dir: &Path) -> Arc<Self> {
        let inner = SqliteStore::open(&dir.join("weft.db"), SqliteOptions::default()).unwrap();
        let (listed, written, slow) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (has_listed, goes_on) = (Notify::new(), Notify::new());
        Arc::new(Self { inner, listed, written, slow, has_listed, goes_on })
    }

    /// What was listed since this was asked last.
    fn listed(&self) -> Vec<String> {
        std::mem::take(&mut self.listed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn written(&self) -> Vec<usize> {
        std::mem::take(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Store for Counting {
    async fn get(&self, key: &str) -> Result<Option<weft_store::Item>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.listed.lock().unwrap().push(prefix.to_owned());
        let listing = self.inner.list(prefix).await;
        let is_slow = self.slow.lock().unwrap().take_if(|slow| slow == prefix).is_some();
        if is_slow {
            self.has_listed.notify_one();
            self.goes_on.notified().await;
        }
        listing
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.written.lock().unwrap().push(txn.then.len());
        self.inner.txn(txn).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        self.inner.watch(prefix, after).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.grant_lease(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke_lease(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }
}

/// Ten in the morning of the 22nd of November 2026, and what is added to it.
#[derive(Debug, Default)]
struct Hand {
    passed_ms: AtomicU64,
}

impl Hand {
    fn pass(&self, seconds: u64) {
        self.passed_ms.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for Hand {
    fn moment(&self) -> Moment {
        let begin: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let ticks_ms = self.passed_ms.load(Ordering::Relaxed);
        let at = begin.as_millisecond() + i64::try_from(ticks_ms).unwrap();
        let at = Timestamp::from_millisecond(at).unwrap();
        Moment { at, boot: "a".to_owned(), ticks_ms }
    }

    async fn sleep(&self, _duration: Duration) {
        std::future::pending().await
    }
}

struct Bench {
    store: Arc<Counting>,
    clock: Arc<Hand>,
    metering: Arc<Metering>,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (Counting::open(dir.path()), Arc::new(Hand::default()));
    let repo = Repo::new(Arc::clone(&store) as Arc<dyn Store>);
    let metering = Metering::new(repo, Arc::clone(&clock) as Arc<dyn Clock>, None);
    Bench { store, clock, metering: Arc::new(metering), _dir: dir }
}

fn volume(n: u16) -> Record<VolumeId, VolumeSpec> {
    let [a, b] = n.to_be_bytes();
    let spec = serde_json::from_str(r#"{ "size_gib": 1 }"#).unwrap();
    crate::testing::record(VolumeId::from_random([a, b, 0, 0, 0, 0, 0, 0, 0]), spec)
}

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn filter(from: &str, to: &str) -> Filter {
    Filter { from: day(from), to: day(to), subject: None, tags: Default::default() }
}

impl Bench {
    /// Meters of so many volumes, written down at once.
    async fn volumes(&self, count: u16) {
        let item = Item::Volume { volume_type: "standard".to_owned(), size_gib: 1 };
        let mut books = self.metering.books.lock().await;
        books.load(&self.metering.repo).await.unwrap();
        let mut draft = Draft::default();
        for n in 0..count {
            let key = MeterKey::of_standing("volumes", &volume(n).id);
            let meter = Meter::counting(item.clone(), Labels::default(), self.clock.moment());
            if !draft.put_if_room(key.clone(), meter.clone(), Vec::new()) {
                let full = std::mem::take(&mut draft);
                books.commit(&self.metering.repo, full, Txn::new()).await.unwrap();
                draft.put(key, Some(meter), Vec::new());
            }
        }
        books.commit(&self.metering.repo, draft, Txn::new()).await.unwrap();
    }

    /// Days on which something was used.
    async fn used_on(&self, days: impl IntoIterator<Item = Day>) {
        for day in days {
            let (item, labels) = (Item::PublicIp, Labels::default());
            let entry = Entry { day, item, labels, quantity: 1000 };
            for (key, sum) in DailySum::gather("eip-1", vec![entry]) {
                let txn = Txn::new().put(format!("{USAGE_DAYS}{key}"), encode(&sum));
                self.store.inner.txn(txn).await.unwrap();
            }
        }
    }

    async fn days(&self) -> Vec<String> {
        let listing = self.store.inner.list(USAGE_DAYS).await.unwrap();
        let day = |item: &weft_store::Item| item.key.split('/').nth(2).unwrap().to_owned();
        listing.items.iter().map(day).collect()
    }

    /// All that was used in the days, in seconds and GiB-hours.
    async fn amounts(&self, from: &str, to: &str) -> Vec<String> {
        let usage = self.metering.usage(&filter(from, to), &GroupBy::Item).await.unwrap().0;
        usage.rows.into_iter().map(|row| row.amount).collect()
    }
}

#[tokio::test]
async fn a_question_reads_the_days_that_it_is_about_and_no_other() {
    let bench = bench();
    bench.used_on(day("2026-01-01").to(day("2026-11-22"))).await;
    bench.store.listed();
    assert_eq!(bench.amounts("2026-11-22", "2026-11-22").await, ["0.000278"]);
    let days = |listed: Vec<String>| -> Vec<String> {
        let of_days = listed.into_iter().filter(|prefix| prefix.starts_with(USAGE_DAYS));
        of_days.collect()
    };
    assert_eq!(days(bench.store.listed()), ["usage/days/2026-11-22/"]);
    // As many days as are kept, and as many to come: whatever is asked for.
    bench.amounts("0001-01-01", "9999-12-31").await;
    assert_eq!(days(bench.store.listed()).len(), 801);
    let subject = Some("eip-1".to_owned());
    let of_one = Filter { subject, ..filter("2026-11-21", "2026-11-22") };
    let found = bench.metering.usage(&of_one, &GroupBy::Item).await.unwrap().0;
    assert_eq!(found.rows[0].amount, "0.000556");
    let want = ["usage/days/2026-11-21/eip-1/", "usage/days/2026-11-22/eip-1/"];
    assert_eq!(days(bench.store.listed()), want);
    // What is no id is part of no key.
    let of_none = Filter { subject: Some("\n".to_owned()), ..filter("2026-11-21", "2026-11-22") };
    assert_eq!(bench.metering.usage(&of_none, &GroupBy::Item).await.unwrap().0.rows, []);
}

#[tokio::test]
async fn the_books_are_open_while_sums_are_read_and_what_moves_meanwhile_is_counted_once() {
    let bench = bench();
    bench.volumes(1).await;
    bench.clock.pass(3600);
    bench.metering.count_standing().await.unwrap();
    bench.clock.pass(3600);
    *bench.store.slow.lock().unwrap() = Some("usage/days/2026-11-22/".to_owned());
    let asked = {
        let metering = Arc::clone(&bench.metering);
        let filter = filter("2026-11-01", "2026-11-30");
        tokio::spawn(async move { metering.usage(&filter, &GroupBy::Item).await })
    };
    bench.store.has_listed.notified().await;
    // Would never come to an end if the reader had the books.
    bench.metering.count_standing().await.unwrap();
    bench.store.goes_on.notify_one();
    let usage = asked.await.unwrap().unwrap().0;
    let amounts: Vec<_> = usage.rows.iter().map(|row| row.amount.as_str()).collect();
    assert_eq!(amounts, ["2"], "GiB-hours");
}

#[tokio::test]
async fn old_days_go_by_their_prefixes_and_the_others_stay() {
    let bench = bench();
    let (oldest, today) = (day("2026-11-22").back(days::KEPT_DAYS), day("2026-11-22"));
    let old = [day("1970-01-01"), day("2024-02-29"), day("2025-01-31"), oldest.back(1)];
    bench.used_on(old).await;
    bench.used_on(oldest.back(150).to(today)).await;
    bench.store.listed();
    days::forget_old(&bench.metering.repo, today).await.unwrap();
    let want: Vec<String> = oldest.to(today).map(|day| day.to_string()).collect();
    assert_eq!(bench.days().await, want);
    let longest = bench.store.written().into_iter().max();
    assert!(longest <= Some(MAX_TXN_OPS), "{longest:?}");
    let listed = bench.store.listed();
    assert!(listed.iter().all(|prefix| prefix.len() > USAGE_DAYS.len()), "{listed:?}");
}

#[tokio::test]
async fn a_thousand_volumes_are_counted_in_few_transactions_between_which_others_come() {
    let bench = bench();
    bench.volumes(1000).await;
    bench.clock.pass(900);
    bench.store.written();
    // Somebody who waits for the books from the beginning on.
    let metering = Arc::clone(&bench.metering);
    let books = metering.books.lock().await;
    let count = async {
        bench.metering.count_standing().await.unwrap();
        bench.store.written()
    };
    let make = async {
        drop(books);
        let txn = Txn::new().put("objects/volumes/new", "");
        bench.metering.keep(&volume(1000), txn).await.unwrap();
        // How many transactions were before its own.
        bench.store.written.lock().unwrap().len() - 1
    };
    let (written, before) = tokio::join!(count, make);
    assert!(before <= 2, "it waited for {before} transactions");
    // Each is of 64 meters and their sums, and that of the new volume is of two keys.
    assert_eq!(written.len(), 1000_usize.div_ceil(MAX_TXN_OPS / 2) + 1, "{written:?}");
    assert!(written.iter().all(|ops| *ops <= MAX_TXN_OPS), "{written:?}");
    assert_eq!(bench.amounts("2026-11-22", "2026-11-22").await, ["250"], "GiB-hours");
}

#[tokio::test]
async fn meters_with_long_labels_are_spread_over_as_many_transactions_as_they_need() {
    let bench = bench();
    let tags = (0..40).map(|n| (format!("{n:0>128}"), "v".repeat(256)));
    for n in 0..60 {
        let mut record = volume(n);
        record.tags = weft_model::Tags::parse(tags.clone()).unwrap();
        bench.metering.keep(&record, Txn::new()).await.unwrap();
    }
    bench.clock.pass(3600);
    bench.store.written();
    bench.metering.count_standing().await.unwrap();
    let written = bench.store.written();
    assert!(written.len() > 1 && written.len() < 10, "{written:?}");
    assert_eq!(bench.amounts("2026-11-22", "2026-11-22").await, ["60"], "GiB-hours");
}

#[tokio::test]
async fn who_comes_too_late_leaves_the_books_open() {
    let bench = bench();
    bench.volumes(3).await;
    bench.store.listed();
    for _ in 0..5 {
        let late = Txn::new().when_at("objects/volumes/none", Revision(7));
        let refused = bench.metering.keep(&volume(3), late).await.unwrap_err();
        assert_eq!(refused.reason, Reason::StaleGeneration);
    }
    bench.metering.keep(&volume(3), Txn::new()).await.unwrap();
    let listed = bench.store.listed();
    assert!(!listed.iter().any(|prefix| prefix == USAGE_OPEN), "{listed:?}");
    bench.clock.pass(3600);
    assert_eq!(bench.amounts("2026-11-22", "2026-11-22").await, ["4"], "GiB-hours");
}

#[tokio::test]
async fn an_instance_that_is_gone_is_remembered_nowhere() {
    let bench = bench();
    let record = crate::testing::instance(1, 1, None);
    let now = bench.clock.moment();
    let seen = crate::host::SeenGuest {
        guest: weft_planner::GuestState::Running { epoch: 1 },
        run: weft_metering::Run::Running { started: now.clone() },
        ..crate::host::SeenGuest::default()
    };
    bench.metering.note(&record, &seen, &now, async || BTreeMap::new()).await.unwrap();
    assert_eq!(bench.metering.books.lock().await.seen.len(), 1);
    bench.clock.pass(60);
    bench.metering.end(&record, Txn::new()).await.unwrap();
    let books = bench.metering.books.lock().await;
    assert!(books.seen.is_empty() && books.keys().next().is_none());
    drop(books);
    assert_eq!(bench.amounts("2026-11-22", "2026-11-22").await, ["60"], "seconds");
}

#[tokio::test]
async fn links_are_looked_at_while_the_books_are_open() {
    let bench = bench();
    let record = crate::testing::instance(1, 1, None);
    let started = bench.clock.moment();
    let mut seen = crate::host::SeenGuest {
        guest: weft_planner::GuestState::Running { epoch: 1 },
        run: weft_metering::Run::Running { started: started.clone() },
        ..crate::host::SeenGuest::default()
    };
    let none = async || -> BTreeMap<String, weft_metering::Sent> { panic!("nothing has ended") };
    bench.metering.note(&record, &seen, &started, none).await.unwrap();
    bench.clock.pass(60);
    let ended = bench.clock.moment();
    seen.run = weft_metering::Run::Over { started, ended: Some(ended.clone()) };
    seen.guest = weft_planner::GuestState::default();
    let carried = async || {
        assert!(bench.metering.books.try_lock().is_ok(), "others wait for a dump of links");
        let sent = weft_metering::Sent { space: "a".to_owned(), index: 2, bytes: 700 };
        BTreeMap::from([("eni-1".to_owned(), sent)])
    };
    bench.metering.note(&record, &seen, &ended, carried).await.unwrap();
    assert_eq!(bench.amounts("2026-11-22", "2026-11-22").await, ["60", "700"]);
}
