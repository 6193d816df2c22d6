//! What can go wrong with root disks.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use weft_image_format::InvalidImage;
use weft_model::DiskFormat;

use crate::files::FileError;

use super::OverlayInfo;

/// Why a root disk is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Smaller than what is on it.
    #[error(
        "a root disk of {requested_bytes} bytes is smaller than its image of {image_bytes}: ask for at least that, or leave the size out"
    )]
    SmallerThanImage {
        /// What was asked for.
        requested_bytes: u64,
        /// What the image has.
        image_bytes: u64,
    },
    /// A backing file that would depend on where the overlay is.
    #[error("backing file {} is not an absolute path", backing.display())]
    RelativeBacking {
        /// The path.
        backing: PathBuf,
    },
    /// The image below cannot be used.
    #[error("image {} cannot be used as a disk", backing.display())]
    NotAnImage {
        /// The blob.
        backing: PathBuf,
        /// What it is.
        #[source]
        source: InvalidImage,
    },
    /// The image below is laid out in another way.
    #[error("image {} is {found}, {expected} was recorded", backing.display())]
    WrongFormat {
        /// The blob.
        backing: PathBuf,
        /// What was said.
        expected: DiskFormat,
        /// What it is.
        found: DiskFormat,
    },
    /// Something else is at the path.
    #[error("{} is not an overlay: {what}", path.display())]
    NotAnOverlay {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Something else is where a disk should be.
    #[error("{} is not a disk: {what}", path.display())]
    NotADisk {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// A disk is at the path, but another one.
    #[error("disk {} exists with {} bytes on {}, but {} bytes on {} are wanted: remove it first", path.display(), found.virtual_size_bytes, found.backing.display(), want.virtual_size_bytes, want.backing.display())]
    Differs {
        /// The path.
        path: PathBuf,
        /// What was asked for.
        want: Box<OverlayInfo>,
        /// What is there.
        found: Box<OverlayInfo>,
    },
    /// It is not there, or not any more.
    #[error("disk {} does not exist: make it first", path.display())]
    Gone {
        /// The path.
        path: PathBuf,
    },
    /// The program could not be started.
    #[error("run {}: is QEMU's qemu-img installed?", program.display())]
    NoQemuImg {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed, or ran into one of its limits.
    #[error("qemu-img ended with {status}: {message}")]
    QemuImg {
        /// "exit status: 1", "signal: 25 (SIGXFSZ)".
        status: String,
        /// The exit status, where there is one.
        code: Option<i32>,
        /// The last of what it said.
        message: String,
    },
    /// What stands behind the header contradicts itself.
    #[error("the qcow2 image is damaged or made to do harm: {what}")]
    Damaged {
        /// What `qemu-img check` said, or which of its bounds it hit.
        what: String,
    },
    /// What was to be made of the disk is larger than what is free.
    #[error(
        "what is on the disk does not fit into the {room_bytes} bytes that it may take of what is free on the host: make room"
    )]
    NoRoom {
        /// What could be used.
        room_bytes: u64,
    },
    /// Others fill the file system meanwhile, and come first.
    #[error("{free_bytes} bytes are left in {}, too few for what goes on there: make room", dir.display())]
    FillsUp {
        /// Where the copy was to be.
        dir: PathBuf,
        /// What was free.
        free_bytes: u64,
    },
    /// It took too long and was ended.
    #[error("qemu-img did not end within {} s", deadline.as_secs_f32())]
    QemuImgTooSlow {
        /// How long it had.
        deadline: Duration,
    },
    /// A file could not be used.
    #[error("keep root disks")]
    File(#[from] FileError),
}

impl DiskError {
    /// Whether the file system is what was too small.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::NoRoom { .. } | Self::FillsUp { .. } => true,
            Self::File(error) => matches!(
                error.source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ),
            // The words of strerror(3) in the C locale.
            Self::QemuImg { message, .. } => {
                message.contains("No space left on device")
                    || message.contains("Disk quota exceeded")
            }
            _ => false,
        }
    }

    /// Whether the same call may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoQemuImg { .. } | Self::QemuImg { .. } | Self::QemuImgTooSlow { .. } => true,
            Self::Gone { .. } => true,
            Self::File(error) => error.is_retryable(),
            _ => false,
        }
    }
}
