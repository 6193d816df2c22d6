//! A guest that runs goes over from several layers of its disk to the one that they were merged into.
//!
//! ```text
//!   disk ─▶ c ─▶ b ─▶ a ─▶ image       b and a are merged into m
//!             └▶ m ───────▶┘           blockdev-add m; blockdev-reopen c with m below it
//! ```
//!
//! What the guest reads is the same before and after, and QEMU stops its requests in between
//! (`blockdev-reopen` drains the node; QEMU 6.1, `qapi/block-core.json`). Which node is which layer is
//! told by its place in the chain: names are older than what the chain is now, see [`super::graph`].

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use weft_model::{InstanceId, LayerId};

use super::devices::Devices;
use super::graph::BlockGraph;
use super::seal::top_of;
use super::{GuestError, Guests};

/// What a guest's disk lies over, and what of that is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedLayers {
    /// Whether there is an image below all layers.
    pub base: bool,
    /// How many layers there are.
    pub layers: usize,
    /// Which of them are replaced, from the lowest.
    pub replaced: Range<usize>,
    /// Their files, which are still there.
    pub old: Vec<PathBuf>,
    /// What replaces them.
    pub merged: LayerId,
    /// Its file.
    pub path: PathBuf,
}

impl Guests {
    /// Has the guest read `merged` on its disk `device` instead of what that replaces, and closes that. Done
    /// already is success.
    ///
    /// # Errors
    /// QEMU refused, or its chain is not the one that was told ([`GuestError::refused`]: the guest
    /// goes on with what it has); QEMU does not answer.
    pub async fn go_over_to_merged(
        &self,
        id: &InstanceId,
        device: &str,
        merged: &MergedLayers,
    ) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        let top = top_of(&devices, id, device).await?;
        let (node, file) = names(device, &merged.merged);
        // Of an earlier attempt.
        let graph = devices.close_unused(device, &top).await?;
        let chain = graph.below(&top);
        if !chain.contains(&node.as_str()) {
            let base = usize::from(merged.base);
            if chain.len() != base + merged.layers || merged.replaced.end > merged.layers {
                return Err(GuestError::OtherChain {
                    id: id.clone(),
                    device: device.to_owned(),
                    expected: base + merged.layers,
                    found: chain.len(),
                });
            }
            let replaced = base + merged.replaced.start..base + merged.replaced.end;
            let below = replaced.start.checked_sub(1).and_then(|index| chain.get(index).copied());
            let above = chain.get(replaced.end).copied().unwrap_or(&top);
            let given = devices.give_file(&merged.path, false, device).await?;
            weft_crash_points::point("guest.merge.given");
            let arguments = json!({
                "driver": "file", "node-name": file, "filename": given, "read-only": true,
            });
            let added = devices.execute("blockdev-add", arguments).await;
            devices.take_back(&[given]).await?;
            added?;
            let arguments = json!({
                "driver": "qcow2", "node-name": node, "file": file, "backing": below,
                "read-only": true,
            });
            devices.execute("blockdev-add", arguments).await?;
            weft_crash_points::point("guest.merge.added");
            // All that is not said again goes back to its default.
            let mut options = json!({
                "driver": "qcow2", "node-name": above, "file": graph.file_of(above),
                "backing": node,
            });
            match above == top {
                true => options["discard"] = Value::from("unmap"),
                false => options["read-only"] = Value::from(true),
            }
            devices.execute("blockdev-reopen", json!({ "options": [options] })).await?;
            weft_crash_points::point("guest.merge.switched");
            devices.close_unused(device, &top).await?;
        }
        devices.take_back_files(&merged.old).await
    }
}

/// What QEMU calls the disk of a merged layer below `device`, and its file: 31 bytes at most, of which a
/// volume's id takes 21. Digits enough to tell apart the few that one disk has.
fn names(device: &str, merged: &LayerId) -> (String, String) {
    let node = format!("{device}-{}", &merged.digits()[..6]);
    let file = format!("{node}-f");
    (node, file)
}

/// Whether a node was named after this device. Of each disk one is at least: those that it began with
/// are, those that were put on top later are not, and what replaces any is.
pub(super) fn is_named_after(device: &str, node: &str) -> bool {
    node.strip_prefix(device).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

impl Devices<'_> {
    /// Closes what the disk `device`, whose top is `top`, no longer reads; what there is then.
    async fn close_unused(&self, device: &str, top: &str) -> Result<BlockGraph, GuestError> {
        let graph = BlockGraph::of(self).await?;
        let mut used: BTreeSet<&str> = graph.below(top).into_iter().collect();
        used.insert(top);
        let files: Vec<&str> = used.iter().filter_map(|node| graph.file_of(node)).collect();
        used.extend(files);
        let all = graph.connected(|node| node == top || is_named_after(device, node));
        let unused: Vec<&String> =
            all.iter().filter(|node| !used.contains(node.as_str())).collect();
        if unused.is_empty() {
            return Ok(graph);
        }
        for node in unused {
            self.execute_or_not("blockdev-del", json!({ "node-name": node })).await?;
        }
        BlockGraph::of(self).await
    }

    /// Closes descriptors of these files that QEMU was started with or given: they would keep the room
    /// of what is removed.
    async fn take_back_files(&self, files: &[PathBuf]) -> Result<(), GuestError> {
        let inode = |path: PathBuf| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
        let gone: BTreeSet<_> = files.iter().cloned().filter_map(inode).collect();
        let sets = self.execute("query-fdsets", json!({})).await?;
        for set in sets.as_array().map(Vec::as_slice).unwrap_or_default() {
            let fds = set["fds"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_gone = |fd: &Value| {
                let path = fd["fd"].as_u64().map(|fd| format!("/proc/{}/fd/{fd}", self.pid));
                path.and_then(|path| inode(path.into())).is_some_and(|file| gone.contains(&file))
            };
            if fds.iter().any(is_gone) {
                self.execute_or_not("remove-fd", json!({ "fdset-id": set["fdset-id"] })).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use weft_model::VolumeId;

    use super::*;

    #[test]
    fn names_of_nodes_are_not_too_long_and_say_whose_they_are() {
        let volume = VolumeId::from_random([0xab; 9]);
        for device in [volume.as_str(), "root"] {
            let (node, file) = names(device, &LayerId::from_random([0xcd; 9]));
            assert!(file.len() <= 31, "{file}");
            assert!(is_named_after(device, &node) && is_named_after(device, &file));
            assert!(is_named_after(device, device));
        }
        assert!(!is_named_after("root", "backing") && !is_named_after("root", "rooted"));
    }
}
