//! Says from its first bytes what a disk image or kernel is, and refuses what cannot be used.
//!
//! Used by the provider while planning and by the agent before a blob is trusted, so that both
//! say the same. No I/O, no allocation by sizes that a file claims: the bytes are a stranger's.

mod kernel;
mod known;
mod qcow2;

pub use kernel::{InvalidKernel, KernelHeader, detect_kernel};
pub use known::is_page;
pub use qcow2::InvalidQcow2;

/// How much of the start of a file [`detect`] and [`detect_kernel`] want to see: all of a shorter
/// file. More does no harm.
pub const HEAD_BYTES: usize = 64 * 1024;

/// The smallest unit of a disk, in bytes.
pub(crate) const SECTOR: u64 = 512;
/// The largest disk: 64 TiB, in bytes.
pub const MAX_VIRTUAL_SIZE: u64 = 64 << 40;

/// How a disk is laid out in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

impl Format {
    /// The name that `qemu-img` uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What a usable image says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// How it is laid out.
    pub format: Format,
    /// What a guest sees, in bytes; a multiple of 512.
    pub virtual_size_bytes: u64,
}

/// Why a file is no disk image that an instance can start from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImage {
    /// Nothing in it.
    #[error("the file is empty: a disk image was expected, was the download complete?")]
    Empty,
    /// Certainly something else than a disk.
    #[error("the file is {what}, not a disk image: {remedy}")]
    NotADisk {
        /// With its article: "a web page (HTML)".
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A disk in a format that is not read here.
    #[error(
        "the file is a {name} disk image, only qcow2 and raw are supported: convert it with `qemu-img convert -O qcow2 FILE FILE.qcow2`"
    )]
    OtherFormat {
        /// The format's usual name.
        name: &'static str,
    },
    /// Larger than any disk here.
    #[error("a disk of {bytes} bytes is above the limit of 64 TiB")]
    TooLarge {
        /// What the file claims or has.
        bytes: u64,
    },
    /// It begins as qcow2, and cannot be used as such.
    #[error(transparent)]
    Qcow2(#[from] InvalidQcow2),
}

/// Splits a message of [`InvalidImage`] or [`InvalidKernel`] into what is wrong and what to do: they
/// are "what is wrong: what to do", or "what is wrong: where; what to do".
pub fn wrong_and_remedy(message: &str) -> (&str, Option<&str>) {
    match message.rsplit_once("; ").or_else(|| message.split_once(": ")) {
        Some((wrong, remedy)) => (wrong, Some(remedy)),
        None => (message, None),
    }
}

/// Judges the image whose first bytes are `head` (see [`HEAD_BYTES`]) and that is `file_len` bytes
/// long.
///
/// What is not known to be something else is a raw disk: those have no header.
///
/// # Errors
/// [`InvalidImage`] says what the file is and what to do.
pub fn detect(head: &[u8], file_len: u64) -> Result<ImageHeader, InvalidImage> {
    if file_len == 0 || head.is_empty() {
        return Err(InvalidImage::Empty);
    }
    if head.starts_with(qcow2::MAGIC) {
        let virtual_size_bytes = qcow2::virtual_size(head, file_len)?;
        return Ok(ImageHeader { format: Format::Qcow2, virtual_size_bytes });
    }
    known::refuse_known(head)?;
    let virtual_size_bytes = file_len
        .checked_next_multiple_of(SECTOR)
        .filter(|bytes| *bytes <= MAX_VIRTUAL_SIZE)
        .ok_or(InvalidImage::TooLarge { bytes: file_len })?;
    Ok(ImageHeader { format: Format::Raw, virtual_size_bytes })
}

/// The big-endian number at `at`, if the slice reaches that far.
pub(crate) fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// As [`be_u32`].
pub(crate) fn be_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Whether `magic` is at `at`.
pub(crate) fn has(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

#[cfg(test)]
mod tests;
