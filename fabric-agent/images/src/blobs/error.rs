//! What can go wrong with blobs.

use std::io;

use weft_image_format::{InvalidImage, InvalidKernel};
use weft_image_unpack::UnpackError;
use weft_model::{Checksum, Digest};

use crate::files::FileError;

/// Why a blob or upload is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk is too full.
    #[error(
        "{needed} bytes do not fit into the agent's image directory, {free} are free for images: remove images or enlarge the disk"
    )]
    OutOfSpace {
        /// What is still to be written, in bytes.
        needed: u64,
        /// What images may use, in bytes.
        free: u64,
    },
    /// The disk is full to the last block.
    #[error("the disk of the agent's image directory is full: remove images or enlarge the disk")]
    DiskFull(#[source] FileError),
    /// The sender is not where the upload is.
    #[error("bytes at offset {offset} were sent, the upload is at {expected}: go on there")]
    WrongOffset {
        /// Where the bytes were to go.
        offset: u64,
        /// Where they have to.
        expected: u64,
    },
    /// More bytes than announced.
    #[error("the upload has more than the announced {size_bytes} bytes")]
    TooLong {
        /// What was announced.
        size_bytes: u64,
    },
    /// Bytes are missing.
    #[error(
        "the upload of {digest} has {received_bytes} of {size_bytes} bytes: send the rest first"
    )]
    Incomplete {
        /// The blob.
        digest: Digest,
        /// What is there.
        received_bytes: u64,
        /// What was announced.
        size_bytes: u64,
    },
    /// Not begun, or not since the agent's start.
    #[error("no upload of {digest} is under way: begin it, what has arrived is kept")]
    NoUpload {
        /// The blob.
        digest: Digest,
    },
    /// What is packed in it does not come out.
    #[error("blob {digest} cannot be unpacked")]
    NotUnpacked {
        /// The compressed blob.
        digest: Digest,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// More comes out than may.
    #[error(
        "blob {digest} unpacks to more than {max_bytes} bytes: use a smaller image, or start the agent with a larger --max-image-gib"
    )]
    UnpacksTooLarge {
        /// The compressed blob.
        digest: Digest,
        /// What may come out, in bytes.
        max_bytes: u64,
    },
    /// The bytes are others than announced.
    #[error(
        "the uploaded bytes have the digest {actual}, {expected} was announced: the file changed or was damaged on its way, upload it again"
    )]
    DigestMismatch {
        /// What was announced.
        expected: Box<Checksum>,
        /// What arrived, by the same algorithm.
        actual: Box<Checksum>,
    },
    /// There is no such blob.
    #[error("there is no blob {digest}: upload it first")]
    NoBlob {
        /// The blob.
        digest: Digest,
    },
    /// Somebody works on it.
    #[error("blob {digest} is being worked on: try again later")]
    Busy {
        /// The blob.
        digest: Digest,
    },
    /// The blob is no usable disk image.
    #[error("blob {digest} cannot be used as a disk image")]
    NotAnImage {
        /// The blob.
        digest: Digest,
        /// What it is.
        #[source]
        source: InvalidImage,
    },
    /// The blob is no usable kernel.
    #[error("blob {digest} cannot be used as a kernel")]
    NotAKernel {
        /// The blob.
        digest: Digest,
        /// What it is.
        #[source]
        source: InvalidKernel,
    },
    /// A file could not be used.
    #[error("keep image blobs")]
    File(#[source] FileError),
}

impl BlobError {
    /// Whether the disk is what is too small.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::OutOfSpace { .. } | Self::DiskFull(_))
    }

    /// Whether the same call may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::OutOfSpace { .. } | Self::DiskFull(_) | Self::Busy { .. } => true,
            Self::File(error) => error.is_retryable(),
            _ => false,
        }
    }
}

impl From<FileError> for BlobError {
    fn from(error: FileError) -> Self {
        match error.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(error),
            _ => Self::File(error),
        }
    }
}
