//! The header of an overlay: qcow2 version 2 or 3 with a backing file.
//!
//! Source: QEMU `docs/interop/qcow2.txt`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use weft_model::DiskFormat;

use super::OverlayInfo;

/// Header extension "backing file format name".
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Incompatible feature bit 2: the data are in yet another file.
const EXTERNAL_DATA: u64 = 1 << 2;
/// Longest name of a backing file, in bytes.
const MAX_BACKING_NAME: usize = 1023;

const SHORT: &str = "its header is cut off";
/// Of what is whole, and is none of ours: see [`layer`].
pub(super) const OTHER_FILE: &str = "it keeps its data in another file";
/// The same.
pub(super) const ENCRYPTED: &str = "it is encrypted";

/// What a guest sees of a qcow2 disk, in bytes, whatever lies below it; one that would have another
/// file opened is none.
pub(super) fn size(head: &[u8]) -> Result<u64, &'static str> {
    let u64_at = |at: usize| {
        let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_be_bytes).ok_or(SHORT)
    };
    if !head.starts_with(b"QFI\xfb") {
        return Err("it is not qcow2");
    }
    match head.get(4..8) {
        Some([0, 0, 0, 2]) => {}
        Some([0, 0, 0, 3]) if u64_at(72)? & EXTERNAL_DATA != 0 => {
            return Err(OTHER_FILE);
        }
        Some([0, 0, 0, 3]) => {}
        Some(_) => return Err("it is of an unknown version of qcow2"),
        None => return Err(SHORT),
    }
    u64_at(24)
}

/// What a guest sees of a layer, in bytes, or why it cannot be read as what it says to be. What it
/// says to lie below does not matter.
pub(super) fn layer(head: &[u8]) -> Result<u64, &'static str> {
    let size = size(head)?;
    match head.get(32..36) {
        Some([0, 0, 0, 0]) => Ok(size),
        Some(_) => Err(ENCRYPTED),
        None => Err(SHORT),
    }
}

/// Reads the header, or says what is wrong with it.
pub(super) fn parse(head: &[u8]) -> Result<OverlayInfo, &'static str> {
    let bytes = |at: usize, len: usize| head.get(at..at.checked_add(len)?);
    let u32_at = |at: usize| {
        bytes(at, 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or(SHORT)
    };
    let u64_at = |at: usize| {
        bytes(at, 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes).ok_or(SHORT)
    };
    if !head.starts_with(b"QFI\xfb") {
        return Err("it is not qcow2");
    }
    let header_len = match u32_at(4)? {
        2 => 72,
        3 => u32_at(100)? as usize,
        _ => return Err("it is of an unknown version of qcow2"),
    };
    if header_len > 72 && u64_at(72)? & EXTERNAL_DATA != 0 {
        return Err(OTHER_FILE);
    }
    let offset = usize::try_from(u64_at(8)?).map_err(|_| SHORT)?;
    let len = u32_at(16)? as usize;
    if offset == 0 || len == 0 {
        return Err("it has no backing file");
    }
    if len > MAX_BACKING_NAME {
        return Err("the name of its backing file is too long");
    }
    let backing = PathBuf::from(OsStr::from_bytes(bytes(offset, len).ok_or(SHORT)?));

    let mut backing_format = None;
    let mut at = header_len;
    loop {
        let (kind, len) = (u32_at(at)?, u32_at(at.saturating_add(4))? as usize);
        if kind == 0 {
            break;
        }
        let start = at.saturating_add(8);
        let data = bytes(start, len).ok_or(SHORT)?;
        if kind == BACKING_FORMAT {
            let format = std::str::from_utf8(data).ok().and_then(|name| name.parse().ok());
            backing_format = Some(format.ok_or("the format of its backing file is unknown")?);
        }
        at = start.saturating_add(len.next_multiple_of(8));
    }
    let backing_format: DiskFormat =
        backing_format.ok_or("it does not say the format of its backing file")?;
    Ok(OverlayInfo { virtual_size_bytes: u64_at(24)?, backing, backing_format })
}

#[cfg(test)]
mod fuzz {
    use proptest::prelude::*;

    use super::*;

    /// What `qemu-img create -f qcow2 -b /blob -F raw x 1M` begins with, as far as it is read.
    fn overlay() -> Vec<u8> {
        let mut head = vec![0; 160];
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"QFI\xfb\0\0\0\x03");
        put(8, &152_u64.to_be_bytes());
        put(16, &5_u32.to_be_bytes());
        put(24, &(1_u64 << 20).to_be_bytes());
        put(100, &112_u32.to_be_bytes());
        put(112, &BACKING_FORMAT.to_be_bytes());
        put(116, &3_u32.to_be_bytes());
        put(120, b"raw");
        put(152, b"/blob");
        head
    }

    #[test]
    fn a_disk_that_names_another_file_for_its_data_is_none() {
        assert_eq!(size(&overlay()), Ok(1 << 20));
        let spoiled = |at: usize, byte: u8| {
            let mut head = overlay();
            head[at] = byte;
            size(&head).unwrap_err()
        };
        assert!(spoiled(79, 4).contains("another file"));
        assert!(spoiled(7, 4).contains("unknown version"));
        assert!(spoiled(0, 0).contains("not qcow2"));
        assert!(size(&overlay()[..76]).unwrap_err().contains("cut off"));
    }

    /// Guests write these headers.
    #[test]
    fn spoiled_headers_never_panic() {
        let good = parse(&overlay()).unwrap();
        assert_eq!(good.backing, PathBuf::from("/blob"));
        weft_fuzz::fuzz(2000, weft_fuzz::hostile(vec![overlay()]), |head| {
            if let Ok(found) = parse(&head) {
                prop_assert_eq!(size(&head), Ok(found.virtual_size_bytes));
                prop_assert!(found.backing.as_os_str().len() <= MAX_BACKING_NAME);
            }
            if let Ok(bytes) = layer(&head) {
                prop_assert_eq!(size(&head), Ok(bytes));
            }
            let _ = size(&head);
            Ok(())
        });
    }
}
