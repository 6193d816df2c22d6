use std::os::unix::fs::MetadataExt;

use futures::future::join_all;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

async fn open(dir: &TempDir) -> BlobStore {
    BlobStore::open(dir.path(), BlobStoreOptions { reserve_bytes: 0 }).await.unwrap()
}

async fn put(store: &BlobStore, bytes: &[u8]) -> BlobInfo {
    let digest = digest_of(bytes);
    let begun = store.begin(digest, bytes.len() as u64).await.unwrap();
    assert_eq!(begun, Begin::Resume { offset: 0 });
    store.append(digest, 0, Bytes::copy_from_slice(bytes)).await.unwrap();
    store.finish(digest).await.unwrap()
}

fn content() -> Bytes {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn an_upload_becomes_an_immutable_blob() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let bytes = content();
    let info = put(&store, &bytes).await;
    assert_eq!(info.path, dir.path().join("blobs/sha256").join(info.digest.to_string()));
    assert_eq!(fs::read(&info.path).unwrap(), bytes);
    let metadata = fs::metadata(&info.path).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o444);
    assert_eq!(metadata.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&info));
    assert_eq!(store.list_uploads().await.unwrap(), []);
    let again = store.begin(info.digest, info.size_bytes).await.unwrap();
    assert_eq!(again, Begin::Complete(info.clone()), "nothing is sent twice");
    assert_eq!(store.finish(info.digest).await.unwrap(), info);

    assert!(store.remove(info.digest).await.unwrap());
    assert!(!store.remove(info.digest).await.unwrap(), "absence is no error");
    assert_eq!(store.get(info.digest).await.unwrap(), None);
    assert_eq!(put(&store, &bytes).await, info, "and it can come again");
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_was_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let bytes = content();
    let (digest, size) = (digest_of(&bytes), bytes.len() as u64);
    let store = open(&dir).await;
    assert_eq!(store.received_bytes(digest).await.unwrap(), None);
    store.begin(digest, size).await.unwrap();
    assert_eq!(store.append(digest, 0, bytes.slice(..1000)).await.unwrap(), 1000);
    assert_eq!(store.received_bytes(digest).await.unwrap(), Some(1000));
    assert_eq!(store.begin(digest, size).await.unwrap(), Begin::Resume { offset: 1000 });
    drop(store);

    let store = open(&dir).await;
    let error = store.append(digest, 1000, bytes.slice(1000..)).await.unwrap_err();
    assert!(matches!(error, BlobError::NoUpload { .. }), "{error}");
    let uploads = store.list_uploads().await.unwrap();
    assert_eq!((uploads[0].digest, uploads[0].received_bytes), (digest, 1000));
    assert_eq!(store.begin(digest, size).await.unwrap(), Begin::Resume { offset: 1000 });
    let error = store.finish(digest).await.unwrap_err();
    assert!(matches!(error, BlobError::Incomplete { received_bytes: 1000, .. }), "{error}");
    store.append(digest, 1000, bytes.slice(1000..)).await.unwrap();
    let info = store.finish(digest).await.unwrap();
    assert_eq!(fs::read(info.path).unwrap(), bytes);
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_whole_steps_only() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let bytes = content();
    let (digest, size) = (digest_of(&bytes), bytes.len() as u64);
    store.begin(digest, size).await.unwrap();
    for (number, start) in (0..bytes.len()).step_by(100_000).enumerate() {
        let chunk = bytes.slice(start..bytes.len().min(start + 100_000));
        let append = store.append(digest, start as u64, chunk.clone());
        if number % 2 == 0 {
            append.await.unwrap();
            continue;
        }
        // Polled once, so that it has begun, and dropped.
        let polled = tokio::time::timeout(std::time::Duration::ZERO, append).await;
        let Begin::Resume { offset } = store.begin(digest, size).await.unwrap() else { panic!() };
        let (before, after) = (start as u64, (start + chunk.len()) as u64);
        assert!([before, after].contains(&offset), "{offset} after {polled:?}");
        if offset == before {
            store.append(digest, before, chunk).await.unwrap();
        }
    }
    store.finish(digest).await.unwrap();
}

#[tokio::test]
async fn other_bytes_than_announced_are_refused_and_removed() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let (announced, sent) = (digest_of(b"right"), digest_of(b"wrong"));
    store.begin(announced, 5).await.unwrap();
    store.append(announced, 0, Bytes::from_static(b"wrong")).await.unwrap();
    let error = store.finish(announced).await.unwrap_err();
    assert!(!error.is_retryable());
    let text = error.to_string();
    assert!(text.contains(&announced.to_string()) && text.contains(&sent.to_string()), "{text}");
    assert_eq!(store.list().await.unwrap(), []);
    assert_eq!(store.list_uploads().await.unwrap(), []);
    put(&store, b"right").await;
}

#[tokio::test]
async fn offsets_and_sizes_are_held_to() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let digest = digest_of(b"12345");
    let five = Bytes::from_static(b"12345");
    let error = store.append(digest, 0, five.clone()).await.unwrap_err();
    assert!(matches!(error, BlobError::NoUpload { .. }), "{error}");
    store.begin(digest, 5).await.unwrap();
    store.append(digest, 0, five.slice(..3)).await.unwrap();
    for offset in [0, 2, 4, u64::MAX] {
        let error = store.append(digest, offset, five.slice(3..)).await.unwrap_err();
        assert!(matches!(error, BlobError::WrongOffset { expected: 3, .. }), "{error}");
    }
    let error = store.append(digest, 3, five.clone()).await.unwrap_err();
    assert!(matches!(error, BlobError::TooLong { size_bytes: 5 }), "{error}");
    let shorter = store.begin(digest, 2).await.unwrap();
    assert_eq!(shorter, Begin::Resume { offset: 0 }, "what is longer cannot be its start");
    assert!(store.abandon(digest).await.unwrap());
    assert!(!store.abandon(digest).await.unwrap());
    assert_eq!(put(&store, b"12345").await.size_bytes, 5);
}

#[tokio::test]
async fn a_full_disk_is_said_before_anything_is_sent() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let digest = digest_of(b"big");
    let error = store.begin(digest, 1 << 60).await.unwrap_err();
    let BlobError::OutOfSpace { needed, free } = error else { panic!("{error}") };
    assert_eq!(needed, 1 << 60);
    assert!(free < needed);
    let options = BlobStoreOptions { reserve_bytes: u64::MAX };
    let reserved = BlobStore::open(dir.path(), options).await.unwrap();
    let error = reserved.begin(digest, 3).await.unwrap_err();
    assert!(matches!(error, BlobError::OutOfSpace { needed: 3, free: 0 }), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_senders_of_one_blob_help_each_other() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let bytes = content();
    let (digest, size) = (digest_of(&bytes), bytes.len() as u64);
    let send = |step: u64| {
        let (store, bytes) = (store.clone(), bytes.clone());
        tokio::spawn(async move {
            let Begin::Resume { mut offset } = store.begin(digest, size).await? else {
                return store.finish(digest).await;
            };
            while offset < size {
                let end = size.min(offset + step);
                let chunk = bytes.slice(offset as usize..end as usize);
                offset = match store.append(digest, offset, chunk).await {
                    Ok(offset) | Err(BlobError::WrongOffset { expected: offset, .. }) => offset,
                    Err(error) => return Err(error),
                };
            }
            store.finish(digest).await
        })
    };
    for done in join_all([send(7_001), send(10_007), send(64_000)]).await {
        assert_eq!(done.unwrap().unwrap().size_bytes, size);
    }
    assert_eq!(fs::read(store.path(&digest)).unwrap(), bytes);
    assert_eq!(store.list_uploads().await.unwrap(), []);
}

#[tokio::test]
async fn blobs_are_inspected_as_images_and_kernels() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let raw = put(&store, &[7; 1000]).await.digest;
    assert_eq!(store.inspect(raw).await.unwrap().virtual_size_bytes, 1024);
    let error = store.inspect_kernel(raw).await.unwrap_err();
    assert!(matches!(error, BlobError::NotAKernel { .. }), "{error}");
    let page = put(&store, b"<html>404</html>").await.digest;
    let error = store.inspect(page).await.unwrap_err();
    assert!(matches!(error, BlobError::NotAnImage { .. }), "{error}");
    let empty = put(&store, b"").await.digest;
    assert!(matches!(store.inspect(empty).await, Err(BlobError::NotAnImage { .. })));
    let error = store.inspect(digest_of(b"never sent")).await.unwrap_err();
    assert!(matches!(error, BlobError::NoBlob { .. }), "{error}");
}

#[tokio::test]
async fn strange_files_beside_the_blobs_are_left_alone() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    fs::write(dir.path().join("blobs/sha256/README"), "mine").unwrap();
    fs::create_dir(dir.path().join("blobs/sha256").join("0".repeat(64))).unwrap();
    fs::write(dir.path().join("uploads/notes.part"), "mine").unwrap();
    assert_eq!(store.list().await.unwrap(), []);
    assert_eq!(store.list_uploads().await.unwrap(), []);
}

/// The parser is judged by the program whose format it is.
#[tokio::test]
async fn headers_that_qemu_img_writes_are_understood() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let file = |name: &str| dir.path().join(name).display().to_string();
    let base = file("base");
    fs::write(&base, [1; 512]).unwrap();
    let data = format!("data_file={}", file("data"));
    let secret = [
        "--object",
        "secret,id=s,data=x",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
    ];
    #[rustfmt::skip]
    let cases: &[(&str, &str, &[&str], &str)] = &[
        // format, size,  options,                                        what inspect says
        ("qcow2", "3M",   &[],                                            "3145728"),
        ("qcow2", "3M",   &["-o", "compat=0.10"],                         "3145728"),
        ("qcow2", "3M",   &["-o", "cluster_size=512"],                    "3145728"),
        ("qcow2", "5G",   &["-o", "cluster_size=2M,refcount_bits=1"],     "5368709120"),
        ("qcow2", "5G",   &["-o", "extended_l2=on,cluster_size=128k"],    "5368709120"),
        ("qcow2", "5G",   &["-o", "compression_type=zstd"],               "5368709120"),
        ("qcow2", "64T",  &[],                                            "70368744177664"),
        ("qcow2", "65T",  &[],                                            "at most 64 TiB"),
        ("qcow2", "3M",   &["-F", "raw", "-b", &base],                    "needs a backing file"),
        ("qcow2", "3M",   &["-o", &data],                                 "its data in another file"),
        ("qcow2", "3M",   &secret,                                        "is encrypted"),
        ("raw",   "3M",   &[],                                            "3145728"),
        ("qcow",  "3M",   &[],                                            "qcow version 1"),
        ("qed",   "3M",   &[],                                            "QED"),
        ("vmdk",  "3M",   &[],                                            "VMDK"),
        ("vdi",   "3M",   &[],                                            "VDI"),
        ("vhdx",  "3M",   &[],                                            "VHDX"),
        ("vpc",   "3M",   &[],                                            "VHD"),
    ];
    for (number, &(format, size, options, want)) in cases.iter().enumerate() {
        let path = file(&number.to_string());
        let mut create = std::process::Command::new("qemu-img");
        create.args(["create", "-q", "-f", format]).args(options).args([&path, size]);
        let Ok(output) = create.output() else {
            eprintln!("SKIPPED: no qemu-img on this machine");
            return;
        };
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            eprintln!(
                "SKIPPED in part: this qemu-img makes no {format} {options:?}: {}",
                why.trim()
            );
            continue;
        }
        let blob = put(&store, &fs::read(&path).unwrap()).await.digest;
        let got = match store.inspect(blob).await {
            Ok(header) => header.virtual_size_bytes.to_string(),
            Err(BlobError::NotAnImage { source, .. }) => source.to_string(),
            Err(error) => panic!("{error}"),
        };
        assert!(got.contains(want), "{format} {size} {options:?}: want {want}, got {got}");
        store.remove(blob).await.unwrap();
    }
}

#[tokio::test]
async fn a_digest_that_nobody_works_on_has_no_lock() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let under_way = digest_of(b"under way");
    store.begin(under_way, 1000).await.unwrap();
    for number in 0..100_u8 {
        store.abandon(digest_of(&[number])).await.unwrap();
        put(&store, &Bytes::from(vec![number; 10])).await;
    }
    // The last one asked for is dropped with the next.
    assert!(store.inner.locks.lock().unwrap().len() <= 2);
    let bytes = Bytes::from_static(b"1234");
    assert_eq!(store.append(under_way, 0, bytes).await.unwrap(), 4, "it is still known");
}

fn sha512_of(bytes: &[u8]) -> Sha512 {
    Sha512::from_bytes(sha2::Sha512::digest(bytes).into())
}

#[tokio::test]
async fn what_is_known_by_its_sha512_becomes_a_blob_by_its_sha256() {
    let dir = TempDir::new().unwrap();
    let bytes = content();
    let (sha512, size) = (sha512_of(&bytes), bytes.len() as u64);
    let part = Checksum::from(sha512).stand_in();
    let store = open(&dir).await;
    store.begin(part, size).await.unwrap();
    store.append(part, 0, bytes.slice(..1000)).await.unwrap();
    let early = store.finish_by_sha512(sha512).await.unwrap_err();
    assert!(matches!(early, BlobError::Incomplete { .. }), "{early}");
    assert_eq!(store.by_sha512(sha512).await.unwrap(), None);

    // The part outlives the process, as any does.
    let store = open(&dir).await;
    assert_eq!(store.begin(part, size).await.unwrap(), Begin::Resume { offset: 1000 });
    store.append(part, 1000, bytes.slice(1000..)).await.unwrap();
    let info = store.finish_by_sha512(sha512).await.unwrap();
    assert_eq!(info.digest, digest_of(&bytes));
    assert_eq!(fs::read(&info.path).unwrap(), bytes);
    assert_eq!(store.list_uploads().await.unwrap(), []);
    assert_eq!(store.by_sha512(sha512).await.unwrap(), Some(info.clone()));
    store.remove(info.digest).await.unwrap();
    assert_eq!(store.by_sha512(sha512).await.unwrap(), None, "it is looked for, not remembered");
}

#[tokio::test]
async fn another_sha512_leaves_nothing_and_a_known_blob_is_not_replaced() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let bytes = content();
    let other = sha512_of(b"other");
    let part = Checksum::from(other).stand_in();
    store.begin(part, None).await.unwrap();
    store.append(part, 0, bytes.clone()).await.unwrap();
    let error = store.finish_by_sha512(other).await.unwrap_err();
    let BlobError::DigestMismatch { expected, actual } = error else { panic!("{error}") };
    assert_eq!((*expected, *actual), (other.into(), sha512_of(&bytes).into()));
    assert_eq!(
        (store.list().await.unwrap(), store.list_uploads().await.unwrap()),
        (vec![], vec![])
    );

    let known = put(&store, &bytes).await;
    let inode = fs::metadata(&known.path).unwrap().ino();
    let sha512 = sha512_of(&bytes);
    let part = Checksum::from(sha512).stand_in();
    store.begin(part, None).await.unwrap();
    store.append(part, 0, bytes.clone()).await.unwrap();
    assert_eq!(store.finish_by_sha512(sha512).await.unwrap(), known);
    assert_eq!(fs::metadata(&known.path).unwrap().ino(), inode);
    assert_eq!(store.list_uploads().await.unwrap(), []);
}
