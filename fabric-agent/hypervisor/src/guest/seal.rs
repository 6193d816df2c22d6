//! A guest that runs goes over to a new file on top of its disk, while what it has written so far
//! stays below for reading.
//!
//! QEMU is asked what there is: the new node is called after the layer that is sealed, so nothing has
//! to be remembered. Commands: QEMU `qapi/add-fd` in `qapi/misc.json`, `qapi/block-core.json`.
//! `blockdev-snapshot` flushes the old file before it lets the guest go on (`external_snapshot_action`
//! in QEMU's `blockdev.c`): what the guest was told is written is in the layer.

use std::path::Path;

use serde_json::{Value, json};
use weft_model::{InstanceId, LayerId};

use super::devices::{Devices, NAMED_DEVICES};
use super::freeze::{Sealed, WentOver};
use super::{FreezeNote, GuestError, GuestObservation, Guests};
use crate::qemu::decryption;

impl Guests {
    /// Whether QEMU has the guest's disks open.
    ///
    /// # Errors
    /// [`GuestError::StartsJustNow`]: that cannot be told; its records cannot be read.
    pub async fn has_disks_open(&self, id: &InstanceId) -> Result<bool, GuestError> {
        match self.observe(id).await? {
            GuestObservation::Absent | GuestObservation::Exited { .. } => Ok(false),
            GuestObservation::Starting { .. } => Err(GuestError::StartsJustNow { id: id.clone() }),
            _ => Ok(true),
        }
    }

    /// Has the guest write to `next` from now on, on its disk `device`; `layer` is what that becomes
    /// which it has written so far. Done already is success. Where the disk is `encrypted`, what QEMU was
    /// given with the volume encrypts both. With a note, the guest's file systems are frozen when it goes
    /// over, as far as that is known.
    ///
    /// # Errors
    /// QEMU, or the guest's agent, refused ([`GuestError::refused`]: then nothing has changed for the
    /// guest), or did not answer.
    pub async fn switch_disk(
        &self,
        id: &InstanceId,
        device: &str,
        layer: &LayerId,
        next: &Path,
        encrypted: bool,
        freeze: Option<&FreezeNote>,
    ) -> Result<WentOver, GuestError> {
        let _turn = match freeze {
            Some(_) => Some(self.turn_to_freeze(id).await),
            None => None,
        };
        let thawed = match freeze {
            Some(note) => self.thaw_in_turn(id, note).await,
            None => Ok(()),
        };
        let devices = Devices::of(self, id).await?;
        let node = Node::of(layer);
        let top = top_of(&devices, id, device).await?;
        if top == node.disk {
            // In an earlier attempt. What that is worth would be known once the guest is thawed; whatever
            // else is to be done about the disk would wait for that.
            return match (thawed, freeze) {
                (Err(GuestError::StaysFrozen { .. }), _) => Ok(WentOver::PerhapsFrozenStill),
                (Err(error), _) => Err(error),
                (Ok(()), Some(note)) => self.judge_frozen(id, layer, note),
                (Ok(()), None) => Ok(WentOver::AsAsked),
            };
        }
        match thawed {
            Ok(()) => {}
            // It may never be thawed: the snapshot would be waited for, and all that comes after it.
            Err(GuestError::StaysFrozen { id, source }) => {
                return Err(GuestError::FrozenBefore { id, source });
            }
            Err(error) => return Err(error),
        }
        // Of an earlier attempt, perhaps over a file that is gone.
        node.remove_from(&devices).await?;
        let given = devices.give_file(next, true, device).await?;
        weft_crash_points::point("guest.seal.given");
        // A node of its own: QEMU would open the file of an inner one anew when it becomes read-only
        // below the next top.
        let arguments = json!({
            "driver": "file", "node-name": node.file, "filename": given, "discard": "unmap",
        });
        let added = devices.execute("blockdev-add", arguments).await;
        devices.take_back(&[given]).await?;
        added?;
        let mut arguments = json!({
            "driver": "qcow2", "node-name": node.disk, "file": node.file, "backing": Value::Null,
            "discard": "unmap",
        });
        if encrypted {
            arguments["encrypt"] = decryption(device);
        }
        devices.execute("blockdev-add", arguments).await?;
        weft_crash_points::point("guest.seal.added");
        let arguments = json!({ "node": top, "overlay": node.disk });
        let go_over = devices.execute("blockdev-snapshot", arguments);
        let went_over = match freeze {
            Some(note) => {
                let disk = Sealed { device: device.to_owned(), layer: layer.clone() };
                self.while_frozen(id, &disk, note, go_over).await?
            }
            None => go_over.await.map(|_| WentOver::AsAsked)?,
        };
        weft_crash_points::point("guest.seal.switched");
        Ok(went_over)
    }

    /// Has QEMU let go of the file that it was refused to go over to.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub async fn forget_switch(&self, id: &InstanceId, layer: &LayerId) -> Result<(), GuestError> {
        Node::of(layer).remove_from(&Devices::of(self, id).await?).await
    }
}

/// What QEMU calls the new top: node names have 31 bytes at most.
struct Node {
    disk: String,
    file: String,
}

impl Node {
    fn of(layer: &LayerId) -> Self {
        let disk = format!("seal-{}", layer.digits());
        Self { file: format!("{disk}-file"), disk }
    }

    /// One that QEMU does not have is refused, which is what is wanted.
    async fn remove_from(&self, devices: &Devices<'_>) -> Result<(), GuestError> {
        for name in [&self.disk, &self.file] {
            devices.execute_or_not("blockdev-del", json!({ "node-name": name })).await?;
        }
        Ok(())
    }
}

/// What QEMU calls the disk that was put above this layer when that was sealed.
pub(super) fn node_above(layer: &LayerId) -> String {
    Node::of(layer).disk
}

/// The node that the guest's disk `device` is now.
pub(super) async fn top_of(
    devices: &Devices<'_>,
    id: &InstanceId,
    device: &str,
) -> Result<String, GuestError> {
    let blocks = devices.execute("query-block", json!({})).await?;
    let block = block_of(&blocks, device);
    block
        .and_then(node_of)
        .map(str::to_owned)
        .ok_or_else(|| GuestError::NoDisk { id: id.clone(), device: device.to_owned() })
}

/// The node that is on top in one element of that answer.
fn node_of(block: &Value) -> Option<&str> {
    block["inserted"]["node-name"].as_str()
}

/// The disk's element of QEMU's answer to `query-block`. The root disk of a guest that an older agent
/// started has no name, but its node has.
pub(super) fn block_of<'a>(blocks: &'a Value, device: &str) -> Option<&'a Value> {
    let within = format!("{NAMED_DEVICES}/{device}/");
    let blocks = blocks.as_array()?;
    let named = blocks.iter().find(|block| {
        block["qdev"].as_str().is_some_and(|qdev| qdev == device || qdev.starts_with(&within))
    });
    let unnamed = || {
        let is_old = |block: &&Value| {
            block["qdev"].as_str().is_some_and(|qdev| qdev.starts_with("/machine/peripheral-anon/"))
        };
        let is_it = |node: &str| node == device || node.starts_with("seal-");
        blocks.iter().filter(is_old).find(|block| node_of(block).is_some_and(is_it))
    };
    named.or_else(unnamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_of_a_disk_is_found_by_its_device() {
        let block = |qdev: &str, node: &str| json!({ "device": "", "qdev": qdev, "inserted": { "node-name": node } });
        let of = |blocks: &[Value], device| {
            let blocks = Value::Array(blocks.to_vec());
            block_of(&blocks, device).and_then(node_of).map(str::to_owned)
        };
        let new = [
            block("/machine/peripheral-anon/device[9]/virtio-backend", "seed"),
            block("/machine/peripheral/root/virtio-backend", "seal-0"),
            block("/machine/peripheral/vol-1/virtio-backend", "vol-1"),
        ];
        assert_eq!(of(&new, "root").as_deref(), Some("seal-0"));
        assert_eq!(of(&new, "vol-1").as_deref(), Some("vol-1"));
        assert_eq!(of(&new, "vol"), None);
        let old = [
            block("/machine/peripheral-anon/device[9]/virtio-backend", "seed"),
            block("/machine/peripheral-anon/device[8]/virtio-backend", "root"),
        ];
        assert_eq!(of(&old, "root").as_deref(), Some("root"));
    }

    #[test]
    fn names_of_nodes_are_not_too_long() {
        let node = Node::of(&LayerId::from_random([0xab; 9]));
        assert!(node.disk.len() <= 31 && node.file.len() <= 31, "{}", node.file);
    }
}
