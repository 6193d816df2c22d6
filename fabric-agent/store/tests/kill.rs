//! What was answered is there after SIGKILL in the middle of writing.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use weft_store::{SqliteOptions, SqliteStore, Store, Txn};

const DATABASE: &str = "WEFT_STORE_TEST_DATABASE";

/// Not a fact of its own: the child of the test below, which ends it.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let store = SqliteStore::open(Path::new(&path), SqliteOptions::default()).unwrap();
    for n in 0_u64.. {
        let (a, b) = (format!("a/{n:08}"), format!("b/{n:08}"));
        let txn = Txn::new().when_absent(a.clone()).put(a, "1").put(b, "2");
        assert!(store.txn(txn).await.unwrap().committed().is_some());
        // Not println!: the harness captures it.
        writeln!(std::io::stdout(), "\nacked {n}").unwrap();
    }
}

#[tokio::test]
async fn acknowledged_transactions_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let mut next = 0;
    for kill_after in [1, 20, 150] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(DATABASE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acked = None;
        let mut count = 0;
        while count < kill_after {
            let line = lines.next().expect("the child writes").unwrap();
            if let Some(n) = line.strip_prefix("acked ") {
                acked = Some(n.parse::<u64>().unwrap());
                count += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            if let Some(n) = line.unwrap().strip_prefix("acked ").and_then(|n| n.parse().ok()) {
                acked = Some(n);
            }
        }

        let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let (a, b) = (store.list("a/").await.unwrap(), store.list("b/").await.unwrap());
        assert_eq!(a.items.len(), b.items.len(), "both keys of a transaction or none");
        assert!(a.items.len() as u64 > acked.unwrap(), "every answered one is there");
        assert_eq!(a.revision.0 - next, a.items.len() as u64, "no revision is lost");
        // The next child starts at 0 again.
        for item in a.items.into_iter().chain(b.items) {
            store.txn(Txn::new().delete(item.key)).await.unwrap();
        }
        next = store.list("").await.unwrap().revision.0;
    }
}
