//! The header of qcow2, versions 2 and 3.
//!
//! Source: QEMU `docs/interop/qcow2.txt`; the limits are those of `block/qcow2.h`. Only what
//! stands in the header is judged; the tables behind it are QEMU's to check.

use crate::{MAX_VIRTUAL_SIZE, SECTOR, be_u32, be_u64};

pub(crate) const MAGIC: &[u8] = b"QFI\xfb";

/// Bytes of the header of version 2; version 3 has at least 104.
const V2_HEADER: u64 = 72;
const V3_HEADER: u64 = 104;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;

/// `QCOW_MAX_L1_SIZE`, in bytes.
const MAX_L1_BYTES: u64 = 32 << 20;
/// `QCOW_MAX_REFTABLE_SIZE`, in bytes.
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
/// `QCOW_MAX_SNAPSHOTS`.
const MAX_SNAPSHOTS: u32 = 65_536;
/// The smallest entry of the snapshot table, in bytes.
const MIN_SNAPSHOT_BYTES: u64 = 40;

/// Why a qcow2 file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQcow2 {
    /// The file ends before something that its header points to.
    #[error(
        "the qcow2 image is truncated: its {what} ends at byte {ends}, the file has {file_len}; copy or download it again"
    )]
    Truncated {
        /// "header", "L1 table".
        what: &'static str,
        /// Where that would end, in bytes.
        ends: u64,
        /// The file's length, in bytes.
        file_len: u64,
    },
    /// Version 1, or one to come.
    #[error(
        "the image is qcow version {0}, only qcow2 (versions 2 and 3) is supported: convert it with `qemu-img convert -O qcow2 FILE FILE.qcow2`"
    )]
    Version(u32),
    /// It needs another file.
    #[error(
        "the qcow2 image needs a backing file, images must be complete: flatten it with `qemu-img convert -O qcow2 FILE FILE.qcow2` where the backing file is"
    )]
    BackingFile,
    /// It needs another file.
    #[error(
        "the qcow2 image keeps its data in another file, images must be complete: convert it with `qemu-img convert -O qcow2 FILE FILE.qcow2` where the data file is"
    )]
    ExternalDataFile,
    /// Guests could not read it.
    #[error("the qcow2 image is encrypted: convert it with `qemu-img convert` to one that is not")]
    Encrypted,
    /// QEMU found it damaged.
    #[error(
        "the qcow2 image is marked as corrupt: repair it with `qemu-img check -r all FILE`, or use another copy"
    )]
    Corrupt,
    /// Copied while in use.
    #[error(
        "the qcow2 image was not closed cleanly: stop what uses it, then run `qemu-img check -r all FILE`"
    )]
    Dirty,
    /// From a newer QEMU.
    #[error(
        "the qcow2 image uses incompatible features {0:#x} that are not known here: convert it with `qemu-img convert -O qcow2 FILE FILE.qcow2`"
    )]
    UnknownFeatures(u64),
    /// A size that no disk here can have.
    #[error(
        "the qcow2 image claims a disk of {0} bytes: it must be a multiple of 512, above 0 and at most 64 TiB"
    )]
    VirtualSize(u64),
    /// A field has a value that it cannot have.
    #[error("the qcow2 image is damaged: its header has {field} = {value}; use another copy")]
    Field {
        /// The field's name in QEMU's documentation.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
}

struct Header<'a> {
    head: &'a [u8],
    file_len: u64,
}

impl Header<'_> {
    fn u32(&self, at: usize) -> Result<u32, InvalidQcow2> {
        be_u32(self.head, at).ok_or_else(|| self.truncated("header", at as u64 + 4))
    }

    fn u64(&self, at: usize) -> Result<u64, InvalidQcow2> {
        be_u64(self.head, at).ok_or_else(|| self.truncated("header", at as u64 + 8))
    }

    fn truncated(&self, what: &'static str, ends: u64) -> InvalidQcow2 {
        InvalidQcow2::Truncated { what, ends, file_len: self.file_len }
    }

    /// That a table lies behind the header, on a cluster's start, and within the file.
    fn check_table(
        &self,
        (what, field): (&'static str, &'static str),
        offset: u64,
        bytes: u64,
        alignment: u64,
    ) -> Result<(), InvalidQcow2> {
        if offset == 0 || !offset.is_multiple_of(alignment) {
            return Err(InvalidQcow2::Field { field, value: offset });
        }
        match offset.checked_add(bytes) {
            Some(ends) if ends <= self.file_len => Ok(()),
            Some(ends) => Err(self.truncated(what, ends)),
            None => Err(InvalidQcow2::Field { field, value: offset }),
        }
    }
}

/// Checks the header and returns what a guest sees, in bytes.
pub(crate) fn virtual_size(head: &[u8], file_len: u64) -> Result<u64, InvalidQcow2> {
    let header = Header { head, file_len };
    let version = header.u32(4)?;
    let header_len = match version {
        2 => V2_HEADER,
        3 => V3_HEADER,
        other => return Err(InvalidQcow2::Version(other)),
    };
    if file_len < header_len || (head.len() as u64) < header_len {
        return Err(header.truncated("header", header_len));
    }
    let cluster_bits = header.u32(20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(InvalidQcow2::Field { field: "cluster_bits", value: cluster_bits.into() });
    }
    let cluster = 1_u64 << cluster_bits;
    let features = if version == 3 { check_version_3(&header, cluster)? } else { 0 };
    if header.u64(8)? != 0 || header.u32(16)? != 0 {
        return Err(InvalidQcow2::BackingFile);
    }
    if header.u32(32)? != 0 {
        return Err(InvalidQcow2::Encrypted);
    }
    let size = header.u64(24)?;
    if size == 0 || size > MAX_VIRTUAL_SIZE || !size.is_multiple_of(SECTOR) {
        return Err(InvalidQcow2::VirtualSize(size));
    }
    check_l1(&header, size, cluster, features & EXTENDED_L2 != 0)?;
    check_refcounts(&header, cluster)?;
    check_snapshots(&header)?;
    Ok(size)
}

fn check_version_3(header: &Header<'_>, cluster: u64) -> Result<u64, InvalidQcow2> {
    let features = header.u64(72)?;
    if features & !KNOWN != 0 {
        return Err(InvalidQcow2::UnknownFeatures(features & !KNOWN));
    }
    if features & EXTERNAL_DATA != 0 {
        return Err(InvalidQcow2::ExternalDataFile);
    }
    if features & CORRUPT != 0 {
        return Err(InvalidQcow2::Corrupt);
    }
    if features & DIRTY != 0 {
        return Err(InvalidQcow2::Dirty);
    }
    let refcount_order = header.u32(96)?;
    if refcount_order > 6 {
        return Err(InvalidQcow2::Field { field: "refcount_order", value: refcount_order.into() });
    }
    let header_length = u64::from(header.u32(100)?);
    if header_length < V3_HEADER || header_length > cluster || !header_length.is_multiple_of(8) {
        return Err(InvalidQcow2::Field { field: "header_length", value: header_length });
    }
    // Whether the field says zlib (0) or more goes with the feature bit; 1 is zstd.
    let compression = match header.head.get(104) {
        Some(byte) if header_length > 104 => u64::from(*byte),
        _ => 0,
    };
    if compression > 1 || (compression != 0) != (features & COMPRESSION_TYPE != 0) {
        return Err(InvalidQcow2::Field { field: "compression_type", value: compression });
    }
    // Each cluster has 32 subclusters of at least 512 bytes (QEMU, `qcow2_do_open`).
    if features & EXTENDED_L2 != 0 && cluster < 32 * SECTOR {
        return Err(InvalidQcow2::Field { field: "cluster_bits", value: cluster.ilog2().into() });
    }
    Ok(features)
}

fn check_l1(
    header: &Header<'_>,
    size: u64,
    cluster: u64,
    extended: bool,
) -> Result<(), InvalidQcow2> {
    let entries = u64::from(header.u32(36)?);
    let l2_entry_bytes = if extended { 16 } else { 8 };
    // At most 2^21 * 2^18: no overflow.
    let bytes_per_entry = cluster * (cluster / l2_entry_bytes);
    if entries < size.div_ceil(bytes_per_entry) || entries * 8 > MAX_L1_BYTES {
        return Err(InvalidQcow2::Field { field: "l1_size", value: entries });
    }
    header.check_table(("L1 table", "l1_table_offset"), header.u64(40)?, entries * 8, cluster)
}

fn check_refcounts(header: &Header<'_>, cluster: u64) -> Result<(), InvalidQcow2> {
    let clusters = u64::from(header.u32(56)?);
    let bytes = clusters * cluster;
    if clusters == 0 || bytes > MAX_REFCOUNT_TABLE_BYTES.max(cluster) {
        return Err(InvalidQcow2::Field { field: "refcount_table_clusters", value: clusters });
    }
    let name = ("refcount table", "refcount_table_offset");
    header.check_table(name, header.u64(48)?, bytes, cluster)
}

fn check_snapshots(header: &Header<'_>) -> Result<(), InvalidQcow2> {
    let count = header.u32(60)?;
    if count > MAX_SNAPSHOTS {
        return Err(InvalidQcow2::Field { field: "nb_snapshots", value: count.into() });
    }
    if count == 0 {
        return Ok(());
    }
    let bytes = u64::from(count) * MIN_SNAPSHOT_BYTES;
    header.check_table(("snapshot table", "snapshots_offset"), header.u64(64)?, bytes, 8)
}
