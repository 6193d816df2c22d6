//! What a disk lies over: files that nobody writes to, which show through where it has nothing.

use serde::{Deserialize, Serialize};

use crate::{Digest, DiskFormat, LayerId};

/// What a disk lies over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Below {
    /// The image's blob at the bottom, where there is one.
    pub base: Option<ImageBase>,
    /// The sealed layers above that, from the lowest to the highest.
    pub layers: Vec<LayerId>,
}

/// The blob of an image, at the bottom of a disk's layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageBase {
    /// The blob.
    pub digest: Digest,
    /// How it is laid out.
    pub format: DiskFormat,
}
