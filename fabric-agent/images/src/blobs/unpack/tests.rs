//! Compressed images, honest and hostile: each hostile one is refused by name and leaves nothing.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;

use super::*;
use crate::blobs::{BlobStore, BlobStoreOptions};

const MIB: usize = 1 << 20;
const LIMIT: u64 = 64 << 20;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Noise, so that it does not shrink, with a hole of a mebibyte in the middle.
fn disk() -> Vec<u8> {
    let mut state = 7_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = (0..MIB).map(|_| noise()).collect();
    bytes.extend(vec![0; MIB]);
    bytes.extend((0..1000).map(|_| noise()));
    bytes
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

async fn put(store: &BlobStore, bytes: Vec<u8>) -> Digest {
    let digest = digest_of(&bytes);
    store.begin(digest, bytes.len() as u64).await.unwrap();
    store.append(digest, 0, Bytes::from(bytes)).await.unwrap();
    store.finish(digest).await.unwrap();
    digest
}

async fn store() -> (tempfile::TempDir, BlobStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path(), BlobStoreOptions { reserve_bytes: 0 }).await.unwrap();
    (dir, store)
}

#[tokio::test]
async fn what_comes_out_is_a_blob_by_its_own_digest_with_its_holes() {
    let (_dir, store) = store().await;
    let content = disk();
    let packed = put(&store, gzip(&content)).await;
    let disk = store.unpack(packed, LIMIT).await.unwrap().unwrap();
    assert_eq!(disk, digest_of(&content));
    let info = store.get(disk).await.unwrap().unwrap();
    assert_eq!(fs::read(&info.path).unwrap(), content);
    let metadata = fs::metadata(&info.path).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o444);
    assert!(metadata.blocks() * 512 < content.len() as u64 - MIB as u64 / 2, "the hole is one");
    // Asked again, it is not unpacked again: the compressed file may be gone by then.
    assert_eq!(store.unpacked(&packed), Some(disk));
    let before = metadata.ino();
    assert_eq!(store.unpack(packed, LIMIT).await.unwrap(), Some(disk));
    assert_eq!(fs::metadata(&info.path).unwrap().ino(), before);
    // Gone is gone.
    store.remove(disk).await.unwrap();
    assert_eq!(store.unpacked(&packed), Some(disk), "what it was is known");
    assert_eq!(store.unpack(packed, LIMIT).await.unwrap(), Some(disk));
    assert_eq!(fs::read(&info.path).unwrap(), content);
}

#[tokio::test]
async fn a_disk_comes_out_under_the_lock_of_its_own_digest() {
    let (_dir, store) = store().await;
    let content = disk();
    let packed = put(&store, gzip(&content)).await;
    let digest = digest_of(&content);
    let somebody = store.inner.slot(&digest).lock_owned().await;
    let unpacking = {
        let store = store.clone();
        tokio::spawn(async move { store.unpack(packed, LIMIT).await })
    };
    // All of it has come out, and waits.
    while store.unpack_progress(&packed).is_none_or(|told| told.read_bytes < told.total_bytes) {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(store.get(digest).await.unwrap(), None);
    drop(somebody);
    assert_eq!(unpacking.await.unwrap().unwrap(), Some(digest));
    assert!(store.get(digest).await.unwrap().is_some());
}

#[tokio::test]
async fn a_blob_that_is_worked_on_is_not_removed_and_nobody_waits() {
    let (_dir, store) = store().await;
    let digest = put(&store, disk()).await;
    let somebody = store.inner.slot(&digest).lock_owned().await;
    let busy = store.remove(digest).await.unwrap_err();
    assert!(matches!(busy, BlobError::Busy { .. }) && busy.is_retryable(), "{busy}");
    assert!(store.get(digest).await.unwrap().is_some());
    drop(somebody);
    assert!(store.remove(digest).await.unwrap());
}

#[tokio::test]
async fn a_disk_that_is_not_compressed_stays_as_it_is() {
    let (_dir, store) = store().await;
    let plain = put(&store, disk()).await;
    assert_eq!(store.unpack(plain, LIMIT).await.unwrap(), None);
    assert_eq!(store.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_crash_left_half_unpacked_is_gone_with_the_next_start() {
    let (dir, store) = store().await;
    let packed = put(&store, gzip(&disk())).await;
    let half = dir.path().join("uploads").join(format!("{packed}{UNPACKED}"));
    fs::write(&half, [7; 1000]).unwrap();
    drop(store);
    let options = BlobStoreOptions { reserve_bytes: 0 };
    let store = BlobStore::open(dir.path(), options).await.unwrap();
    assert!(!half.exists());
    assert_eq!(store.unpack(packed, LIMIT).await.unwrap(), Some(digest_of(&disk())));
}

/// A header of version 3 in the order of QEMU's `docs/interop/qcow2.txt`.
fn qcow2_with_backing_file() -> Vec<u8> {
    let mut bytes = vec![0; 300_000];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    bytes[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 104, 0, 0, 0, 8]);
    bytes[20..32].copy_from_slice(&[0, 0, 0, 16, 0, 0, 0, 0, 0x40, 0, 0, 0]);
    bytes[100..104].copy_from_slice(&104_u32.to_be_bytes());
    bytes
}

#[tokio::test]
async fn hostile_files_are_refused_by_name_and_leave_nothing() {
    let bomb = gzip(&vec![0; LIMIT as usize + 1]);
    assert!(bomb.len() < MIB, "{} bytes", bomb.len());
    let mut tar = disk();
    tar[257..262].copy_from_slice(b"ustar");
    let mut truncated = gzip(&disk());
    truncated.truncate(truncated.len() / 2);
    let mut wrong_checksum = gzip(&disk());
    let at = wrong_checksum.len() - 8;
    wrong_checksum[at] ^= 1;
    // Its tables are beyond what comes out.
    let mut cut = qcow2_with_backing_file();
    cut[8..20].fill(0);
    cut[36..40].copy_from_slice(&2_u32.to_be_bytes());
    cut[40..48].copy_from_slice(&(8_u64 << 20).to_be_bytes());
    cut[48..56].copy_from_slice(&(1_u64 << 16).to_be_bytes());
    cut[56..60].copy_from_slice(&1_u32.to_be_bytes());
    cut[96..100].copy_from_slice(&4_u32.to_be_bytes());
    let mut huge = qcow2_with_backing_file();
    huge[8..20].fill(0);
    huge[24..32].copy_from_slice(&(1_u64 << 60).to_be_bytes());
    let cases = [
        ("a bomb", bomb, "unpacks to more than"),
        ("a bomb in a bomb", gzip(&gzip(&vec![0; 8 * MIB])), "compressed with gzip"),
        ("a backing file", gzip(&qcow2_with_backing_file()), "backing file"),
        ("a huge virtual size", gzip(&huge), "claims a disk of"),
        ("tables beyond the end", gzip(&cut), "truncated"),
        ("an archive", gzip(&tar), "tar archive"),
        ("nothing", gzip(b""), "empty"),
        ("half of it", truncated, "truncated"),
        ("another checksum", wrong_checksum, "damaged"),
        ("bytes behind the end", [gzip(&disk()), b"more".to_vec()].concat(), "gzip file is"),
    ];
    for (name, bytes, word) in cases {
        let (dir, store) = store().await;
        let packed = put(&store, bytes).await;
        let error = store.unpack(packed, LIMIT).await.unwrap_err();
        let mut said = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(deeper) = cause {
            said = format!("{said}: {deeper}");
            cause = deeper.source();
        }
        assert!(said.contains(word), "{name}: {said}");
        assert!(!error.is_retryable(), "{name}");
        assert_eq!(fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0, "{name}");
        assert_eq!(store.list().await.unwrap().len(), 1, "{name}: only the file as it came");
        assert_eq!(store.unpack_progress(&packed), None, "{name}");
    }
}

#[tokio::test]
async fn the_reserve_is_kept_while_unpacking() {
    let (dir, full) = store().await;
    let packed = put(&full, gzip(&disk())).await;
    drop(full);
    let all = BlobStoreOptions { reserve_bytes: u64::MAX };
    let store = BlobStore::open(dir.path(), all).await.unwrap();
    let error = store.unpack(packed, LIMIT).await.unwrap_err();
    assert!(matches!(error, BlobError::OutOfSpace { .. }), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
}
