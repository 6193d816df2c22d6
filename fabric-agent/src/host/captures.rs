//! Pieces made of disks, on their way to be images' blobs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use weft_images::FlattenSpec;
use weft_model::{Digest, ImageBase, Reason, SnapshotId};

use super::HostError;
use super::blobs::{Blobs, failed};

impl Blobs {
    /// Makes one piece of the disk that consists of `base` and `layers`.
    pub(super) async fn flatten(
        &self,
        id: &SnapshotId,
        base: Option<&ImageBase>,
        layers: Vec<PathBuf>,
        size_bytes: u64,
    ) -> Result<(), HostError> {
        let what = || format!("make an image of {id}");
        let spec = FlattenSpec {
            to: self.store.capture_path(id.as_str()),
            base: base.map(|base| self.backing(base)),
            layers,
            size_bytes,
            room_bytes: self.room_bytes().await?,
        };
        self.disks.flatten(&spec).await.map_err(|error| {
            let reason = match error.is_out_of_space() {
                true => Reason::ResourceExhausted,
                false => Reason::Internal,
            };
            HostError::new(what(), error.is_retryable()).reason(reason).caused_by(error)
        })?;
        self.store.seal_capture(id.as_str()).await.map_err(failed(what()))
    }

    /// What a new file beside the blobs may take, in bytes: what is free without the reserve.
    pub(super) async fn room_bytes(&self) -> Result<u64, HostError> {
        self.store.room_bytes().await.map_err(failed("look for room".to_owned()))
    }

    pub(super) async fn captured(&self, name: &str) -> Result<Digest, HostError> {
        let digest = self.store.captured(name).await;
        digest.map_err(failed(format!("read the image of {name}")))
    }

    pub(super) async fn captures(&self) -> Result<BTreeSet<String>, HostError> {
        let listed = self.store.list_captures().await;
        Ok(listed.map_err(failed("list what images are made of".to_owned()))?.into_iter().collect())
    }
}
