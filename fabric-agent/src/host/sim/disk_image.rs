//! What a simulated disk is when it is looked at as a file: an empty qcow2 image.

use weft_model::SnapshotId;

use crate::host::HostError;
use crate::host::blobs::{Blobs, failed};

/// Clusters of a simulated disk, in bytes: qcow2's own.
const CLUSTER: u64 = 64 << 10;

impl Blobs {
    /// What a simulated host makes of a simulated disk: an empty one of that size, in qcow2, that
    /// says what it is of.
    pub(super) async fn pretend_flattened(
        &self,
        id: &SnapshotId,
        size_bytes: u64,
    ) -> Result<(), HostError> {
        let path = self.store.capture_path(id.as_str());
        tokio::fs::write(&path, empty_qcow2(id.as_str(), size_bytes)).await.map_err(|error| {
            HostError::new(format!("write {}", path.display()), true).caused_by(error)
        })?;
        let sealed = self.store.seal_capture(id.as_str()).await;
        sealed.map_err(failed(format!("make an image of {id}")))
    }
}

/// The least that is a qcow2 image (QEMU `docs/interop/qcow2.txt`, version 2): header, refcount
/// table, one refcount block, L1 table. The label is where nobody looks, in the header's cluster.
fn empty_qcow2(label: &str, size_bytes: u64) -> Vec<u8> {
    let cluster = usize::try_from(CLUSTER).unwrap_or_default();
    // One entry of the L1 table is for as many clusters as an L2 table has entries.
    let l1_entries = size_bytes.div_ceil(CLUSTER * (CLUSTER / 8)).max(1);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    let mut image = vec![0; cluster * (3 + usize::try_from(l1_clusters).unwrap_or_default())];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &2_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes()); // cluster_bits
    put(24, &size_bytes.next_multiple_of(512).to_be_bytes());
    put(36, &u32::try_from(l1_entries).unwrap_or(u32::MAX).to_be_bytes());
    put(40, &(3 * CLUSTER).to_be_bytes()); // l1_table_offset
    put(48, &CLUSTER.to_be_bytes()); // refcount_table_offset
    put(56, &1_u32.to_be_bytes()); // refcount_table_clusters
    put(4096, label.as_bytes());
    put(cluster, &(2 * CLUSTER).to_be_bytes());
    for used in 0..usize::try_from(3 + l1_clusters).unwrap_or_default() {
        put(2 * cluster + used * 2, &1_u16.to_be_bytes());
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_disk_is_an_image_of_its_size() {
        for size in [1 << 20, 3 << 30, 5 << 40] {
            let image = empty_qcow2("snap-1", size);
            let len = image.len() as u64;
            let header = weft_images::detect(&image, len).unwrap();
            assert_eq!(header.virtual_size_bytes, size);
        }
        assert_ne!(empty_qcow2("snap-1", 512), empty_qcow2("snap-2", 512));
    }
}
