//! Images that are none, that would reach for other files, and that do not come.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use weft_acceptance::{Page, Site};

use super::cases::{Case, Fails};

pub(crate) fn all(directory: &Path) -> Result<Vec<Case>> {
    let mut cases = files(directory)?;
    cases.extend(tables(directory)?);
    cases.extend(too_small_a_volume(directory)?);
    cases.extend(urls()?);
    Ok(cases)
}

/// Paths are relative: how long the lab's own is must not show in where lines are broken.
fn by_path(name: &str, path: &str) -> String {
    format!(
        "resource \"weft_image\" \"{name}\" {{\n  name         = \"{name}\"\n  source_path  = \
         \"{path}\"\n  default_user = \"weft\"\n}}\n"
    )
}

fn files(directory: &Path) -> Result<Vec<Case>> {
    let case = |name, path: &str| Case::new(name, Fails::InPlan, by_path("bad", path));
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(4096, 0);
    let page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>".to_vec();
    let files: [(&str, &str, Vec<u8>); 12] = [
        ("an empty image", "empty.raw", Vec::new()),
        ("a truncated image", "truncated.qcow2", qcow2(&[])[..60].to_vec()),
        (
            "an image with a backing file",
            "overlay.qcow2",
            qcow2(&[(8, b"\0\0\0\0\0\0\x04\0"), (16, b"\0\0\0\x0a"), (1024, b"base.qcow2")]),
        ),
        (
            "an image with its data in another file",
            "pointer.qcow2",
            qcow2(&[(72, &(1_u64 << 2).to_be_bytes())]),
        ),
        ("an image with a huge L1 table", "l1.qcow2", qcow2(&[(36, &u32::MAX.to_be_bytes())])),
        (
            "an image with a huge refcount table",
            "refcounts.qcow2",
            qcow2(&[(56, &u32::MAX.to_be_bytes())]),
        ),
        (
            "an image whose L1 table lies behind its end",
            "behind.qcow2",
            qcow2(&[(40, &(1_u64 << 40).to_be_bytes())]),
        ),
        (
            "an image that claims an exbibyte",
            "exbibyte.qcow2",
            qcow2(&[(24, &(1_u64 << 60).to_be_bytes())]),
        ),
        ("an encrypted image", "encrypted.qcow2", qcow2(&[(32, &2_u32.to_be_bytes())])),
        ("an image that is a program", "program", elf),
        ("an image that is a web page", "page.qcow2", page),
        ("an image that is an archive", "disk.tar.gz", gzip()),
    ];
    let mut cases = vec![
        case("an image that is not there", "../missing.raw"),
        case("an image that is a directory", ".."),
    ];
    for (name, file, bytes) in files {
        std::fs::write(directory.join(file), bytes)?;
        cases.push(case(name, &format!("../{file}")));
    }
    Ok(cases)
}

/// What only the agent sees, which reads all of the file: the header alone says nothing wrong.
fn tables(directory: &Path) -> Result<Vec<Case>> {
    let itself = (L1_TABLE as u64 | 1 << 63).to_be_bytes();
    let behind = (1_u64 << 40 | 1 << 63).to_be_bytes();
    let files: [(&str, &str, Vec<u8>); 2] = [
        ("an image whose tables are a loop", "loop.qcow2", qcow2(&[(L1_TABLE, &itself)])),
        ("an image whose tables lead out of it", "outside.qcow2", qcow2(&[(L1_TABLE, &behind)])),
    ];
    let mut cases = Vec::new();
    for (name, file, bytes) in files {
        std::fs::write(directory.join(file), bytes)?;
        cases.push(Case::new(name, Fails::InApply, by_path("bad", &format!("../{file}"))));
    }
    Ok(cases)
}

/// In the plan where the image exists by then.
fn too_small_a_volume(directory: &Path) -> Result<[Case; 2]> {
    let three_gib = qcow2(&[(24, &(3_u64 << 30).to_be_bytes())]);
    std::fs::write(directory.join("three-gib.qcow2"), three_gib)?;
    let hcl = "resource \"weft_instance\" \"bad\" {\n  image_id      = weft_image.it.id\n  \
        instance_type = \"w1.nano\"\n  root_volume   = { size_gib = 2 }\n}\n";
    let image = by_path("it", "../three-gib.qcow2");
    Ok([
        Case::new("a root volume smaller than a new image", Fails::InApply, hcl).with(&image),
        Case::new("a root volume smaller than the image", Fails::InPlan, hcl).after(image),
    ])
}

/// The server's threads live as long as the tests.
fn urls() -> Result<Vec<Case>> {
    let site = Site::start()?;
    let disk = vec![7_u8; 200_000];
    // Of other bytes: one that the agent has already would not be fetched.
    let digest = |last: u8| {
        (0..32).fold(String::new(), |mut text, n| {
            let _ = write!(text, "{:02x}", if n == 31 { last } else { 0xab });
            text
        })
    };
    let case = |name, url: &str, last| {
        let sha256 = digest(last);
        let hcl = format!(
            "resource \"weft_image\" \"bad\" {{\n  name         = \"bad\"\n  source_url   = \
             \"{url}\"\n  sha256       = \"{sha256}\"\n  default_user = \"weft\"\n}}\n"
        );
        Case::new(name, Fails::InApply, hcl)
    };
    let page = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>".to_vec();
    let overlay = qcow2(&[(8, b"\0\0\0\0\0\0\x04\0"), (16, b"\0\0\0\x0a"), (1024, b"base.qcow2")]);
    let breaks = |no_length| Page {
        breaks_after: Some(100_000),
        no_length,
        ..Page::new(vec![7_u8; 1_000_000])
    };
    Ok(vec![
        case("a URL with another file", &site.put("/disk.raw", Page::new(disk.clone())), 1),
        case("a URL that answers with a page", &site.put("/login.qcow2", Page::new(page)), 2),
        case(
            "a URL of an image with a backing file",
            &site.put("/overlay.qcow2", Page::new(overlay)),
            6,
        ),
        case("a URL that breaks off", &site.put("/breaks.raw", breaks(false)), 3),
        case(
            "a URL that breaks off and never said how long it is",
            &site.put("/unknown.raw", breaks(true)),
            4,
        ),
        case("a URL without a file", &format!("{}.old", site.put("/gone", Page::default())), 5),
    ])
}

fn gzip() -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0];
    bytes.resize(4096, 0);
    bytes
}

/// The clusters of [`qcow2`], 64 KiB each, one after the other.
const CLUSTER: usize = 64 << 10;
const REFCOUNT_TABLE: usize = CLUSTER;
const REFCOUNTS: usize = 2 * CLUSTER;
const L1_TABLE: usize = 3 * CLUSTER;

/// A sound image of version 3 without data (QEMU's docs/interop/qcow2.rst), and some room behind
/// it; with `changes`, bytes at offsets, made to it.
fn qcow2(changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0_u8; 8 * CLUSTER];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes()); // cluster bits
    put(24, &(1_u64 << 30).to_be_bytes()); // virtual size
    put(36, &6_u32.to_be_bytes()); // L1 entries, 512 MiB each
    put(40, &(L1_TABLE as u64).to_be_bytes());
    put(48, &(REFCOUNT_TABLE as u64).to_be_bytes());
    put(56, &1_u32.to_be_bytes()); // clusters of the refcount table
    put(96, &4_u32.to_be_bytes()); // refcount order: 16 bits
    put(100, &104_u32.to_be_bytes()); // header length
    put(REFCOUNT_TABLE, &(REFCOUNTS as u64).to_be_bytes());
    for used in 0..4 {
        put(REFCOUNTS + 2 * used, &1_u16.to_be_bytes());
    }
    for (at, value) in changes {
        put(*at, value);
    }
    bytes
}
