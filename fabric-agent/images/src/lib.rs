//! Image blobs, and the disks that instances make of them.
//!
//! ```text
//!   upload ─▶ uploads/<digest>.part ─verified─▶ blobs/sha256/<digest>   immutable, shared
//!                                                      ▲ backing file
//!                                               <instance>/root.qcow2   copy on write, its own
//!                                                      │ sealed
//!                                               layers/<layer>.qcow2    immutable, shared
//! ```
//!
//! What a blob is called is what is in it: two equal images are one blob, and a blob never changes.

mod blobs;
mod disks;
mod files;
mod layers;

pub use blobs::{
    Begin, BlobError, BlobInfo, BlobStore, BlobStoreOptions, UnpackProgress, UploadInfo,
};
pub use disks::{
    Backing, DiskError, DiskSpec, FlattenSpec, Limits, MergeSpec, OverlayInfo, OverlaySpec,
    RootDisks, Seal, SealSpec,
};
pub use files::{FileError, write_file_atomic};
pub use layers::Layers;
pub use weft_image_format::{
    Format, ImageHeader, InvalidImage, InvalidKernel, KernelHeader, detect,
};
pub use weft_image_unpack::{Compression, UnpackError};

use weft_model::DiskFormat;

/// The model's word for what a header says.
pub fn disk_format(format: Format) -> DiskFormat {
    match format {
        Format::Raw => DiskFormat::Raw,
        Format::Qcow2 => DiskFormat::Qcow2,
    }
}
