use std::fs;

use futures::future::join_all;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::conformance::{self, Subject};
use crate::{Event, ManualClock};

use super::*;

struct Sqlite {
    dir: TempDir,
    clock: Arc<ManualClock>,
    store: Option<Arc<dyn Store>>,
}

impl Sqlite {
    fn fresh() -> Self {
        let mut fresh = Self {
            dir: TempDir::new().unwrap(),
            clock: Arc::new(ManualClock::default()),
            store: None,
        };
        fresh.open();
        fresh
    }

    fn open(&mut self) {
        let options = SqliteOptions { clock: self.clock.clone(), ..SqliteOptions::default() };
        self.store = Some(Arc::new(open(&self.dir, options).unwrap()));
    }
}

fn open(dir: &TempDir, options: SqliteOptions) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&dir.path().join("state").join("store.db"), options)
}

#[async_trait]
impl Subject for Sqlite {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(self.store.as_ref().unwrap())
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.open();
    }

    async fn pass_time(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_conforms() {
    conformance::run_all(Sqlite::fresh).await;
}

#[tokio::test]
async fn a_lease_ends_while_nobody_calls() {
    let subject = Sqlite::fresh();
    let store = subject.store();
    let lease = store.grant_lease(Duration::from_secs(5)).await.unwrap();
    store.txn(Txn::new().put_leased("a", "1", lease)).await.unwrap();
    let mut watch = store.watch_events("a", Revision(1)).await.unwrap();
    subject.clock.advance(Duration::from_secs(6));
    let event = futures::StreamExt::next(&mut watch).await.unwrap().unwrap();
    assert_eq!(event, Event::Delete { key: "a".to_owned(), revision: Revision(2) });
}

#[tokio::test]
async fn old_events_are_compacted_without_being_asked() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, SqliteOptions { keep_revisions: 100, ..Default::default() }).unwrap();
    for n in 0..300 {
        store.txn(Txn::new().put("a", n.to_string())).await.unwrap();
    }
    let gone = store.watch_events("", Revision(100)).await.err().unwrap();
    assert!(matches!(gone, StoreError::Compacted { .. }), "{gone}");
    assert!(store.watch_events("", Revision(200)).await.is_ok(), "the promised 100 are there");
    assert_eq!(store.get("a").await.unwrap().unwrap().value, b"299");
}

#[tokio::test]
async fn a_second_agent_is_told_who_has_the_store() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir, SqliteOptions::default()).unwrap();
    let error = open(&dir, SqliteOptions::default()).unwrap_err();
    let holder = format!("in use by process {}", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    assert!(error.is_retryable());
    drop(first);
    open(&dir, SqliteOptions::default()).unwrap();
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir, SqliteOptions::default()).unwrap());
    let path = dir.path().join("state/store.db");
    let raw = Connection::open(&path).unwrap();
    raw.execute("UPDATE store SET schema_version = 2", []).unwrap();
    drop(raw);
    let error = open(&dir, SqliteOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 2, known: 1, .. }), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn files_that_are_not_our_store_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let error = SqliteStore::open(&path, SqliteOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::ForeignDatabase { .. }), "{error}");

    let path = dir.path().join("text.db");
    fs::write(&path, "no database at all, and long enough to tell".repeat(100)).unwrap();
    let error = SqliteStore::open(&path, SqliteOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn damage_is_found_while_opening() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, SqliteOptions::default()).unwrap();
    for n in 0..50 {
        store.txn(Txn::new().put(format!("key/{n}"), vec![b'x'; 10_000])).await.unwrap();
    }
    drop(store);
    let path = dir.path().join("state/store.db");
    let mut bytes = fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(2).step_by(2) {
        page[..64].fill(0xa5);
    }
    fs::write(&path, bytes).unwrap();
    let error = open(&dir, SqliteOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("restore a backup"), "{error}");
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let store = open(&dir, SqliteOptions::default()).unwrap();
    store.txn(Txn::new().put("a", "secret")).await.unwrap();
    for entry in fs::read_dir(dir.path().join("state")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_call_and_the_store_goes_on() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, SqliteOptions::default()).unwrap();
    store.txn(Txn::new().put("small", "1")).await.unwrap();
    let limit = |pages: i64| {
        store.mailbox.read(move |tables| {
            tables.limit_pages(pages).map_err(StoreError::sqlite("limit the size"))
        })
    };
    limit(20).await.unwrap();
    // More than the reserve has.
    let big = vec![b'x'; 900_000];
    let results = join_all([
        store.txn(Txn::new().put("before", "1")),
        store.txn(Txn::new().put("big", big.clone())),
        store.txn(Txn::new().put("after", "1")),
    ])
    .await;
    let error = results[1].as_ref().unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    for (result, key) in results.iter().zip(["before", "big", "after"]) {
        let there = store.get(key).await.unwrap().is_some();
        assert_eq!(there, result.is_ok(), "{key}: the answer tells the truth");
    }
    limit(1_000_000).await.unwrap();
    store.txn(Txn::new().put("big", big)).await.unwrap();
    let head = store.list("").await.unwrap().revision;
    let mut watch = store.watch_events("", Revision::ABSENT).await.unwrap();
    let mut last = Revision::ABSENT;
    while last < head {
        last = futures::StreamExt::next(&mut watch).await.unwrap().unwrap().revision();
    }
}
