//! The console: logged within bounds, and interactive for several at once.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::bench::{Bench, PATIENCE, boot_sector, wait_for};

/// What the two files may hold together.
const MAX_LOG_BYTES: u64 = 1 << 20;

#[tokio::test]
async fn a_flooding_guest_fills_its_bound_and_no_more() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.launch(boot_sector::FLOOD).await;
    let dir = bench.guests.dir(&spec.instance_id);
    let size = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |m| m.len());
    let mut rotated = false;
    wait_for("a second round of the log", async || {
        // In this order: a rotation in between moves bytes to what was counted already.
        let (new, old) = (size("console.log"), size("console.log.1"));
        assert!(new + old <= MAX_LOG_BYTES, "{new} + {old}");
        let again = rotated && new > 0 && old > 0;
        rotated |= old > 0;
        again.then_some(())
    })
    .await;
    let tail = bench.guests.console_tail(&spec.instance_id, 100).unwrap();
    assert_eq!(tail, [b'x'; 100]);
    bench.finish().await;
}

#[tokio::test]
async fn several_read_the_console_and_any_may_type() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.launch(boot_sector::ECHO).await;
    let id = &spec.instance_id;
    let mut one = bench.guests.console_attach(id).await.unwrap();
    let mut two = bench.guests.console_attach(id).await.unwrap();
    // The firmware empties the port until the boot sector runs: typed until it is heard.
    let mut typist = tokio::time::interval(std::time::Duration::from_millis(100));
    let mut answer = [0; 1];
    let heard = async {
        loop {
            tokio::select! {
                read = two.read_exact(&mut answer) => return read.unwrap(),
                _ = typist.tick() => one.write_all(b"A").await.unwrap(),
            }
        }
    };
    timeout(PATIENCE, heard).await.unwrap();
    assert_eq!(&answer, b"B");
    two.write_all(b"X").await.unwrap();
    let mut seen = Vec::new();
    let both = async {
        while !seen.contains(&b'Y') {
            seen.push(one.read_u8().await.unwrap());
        }
    };
    timeout(PATIENCE, both).await.unwrap();

    drop((one, two));
    let mut late = bench.guests.console_attach(id).await.unwrap();
    let mut replay = [0; 1];
    timeout(PATIENCE, late.read_exact(&mut replay)).await.unwrap().unwrap();
    assert_eq!(&replay, b"B");
    bench.finish().await;
}
