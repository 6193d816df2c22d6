//! Volumes that come and go while a guest runs.
//!
//! Their devices are called after them, see [`super::devices`], and their nodes too, see
//! [`VolumeDisk`]; those that became tops later, when a snapshot was taken, are not (see [`super::seal`]):
//! they are found by what they lie over (see [`super::graph`]).
//! Commands: QEMU `qapi/block-core.json`, `qapi/misc.json`, `qapi/qdev.json`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weft_model::{DataSecret, InstanceId, VolumeId};

use super::devices::{Devices, LET_GO_DEADLINE, POLL_INTERVAL};
use super::graph::BlockGraph;
use super::merge::is_named_after;
use super::seal::top_of;
use super::{GuestError, Guests};
use crate::qemu::VolumeDisk;

/// The volumes of a guest that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestVolumes {
    /// Those that it has.
    pub attached: BTreeSet<VolumeId>,
    /// Whether others can be plugged in: it has root ports for them.
    pub can_be_given: bool,
}

impl GuestVolumes {
    /// From the names of QEMU's devices.
    pub(super) fn of(names: &[String]) -> Self {
        let first_port = VolumeDisk::port_name(1);
        Self {
            attached: names.iter().filter_map(|name| name.parse().ok()).collect(),
            can_be_given: names.contains(&first_port),
        }
    }
}

impl Guests {
    /// Plugs a volume into a guest that runs. Done already is success; what an earlier attempt left
    /// half way is made anew. `secret` is what encrypts it, where it is encrypted.
    ///
    /// # Errors
    /// A file of the volume cannot be opened, or QEMU refused: the port is another one's, say, or
    /// another guest has the volume.
    pub async fn plug_volume(
        &self,
        id: &InstanceId,
        disk: &VolumeDisk,
        secret: Option<&DataSecret>,
    ) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        if GuestVolumes::of(&devices.names().await?).attached.contains(&disk.volume_id) {
            return Ok(());
        }
        devices.remove_nodes(&disk.volume_id).await?;
        let mut paths = Vec::new();
        for (path, write) in disk.files() {
            paths.push(devices.give_file(path, write, disk.volume_id.as_str()).await?);
        }
        weft_crash_points::point("guest.plug_volume.given");
        let added = match devices.give_secret(disk.volume_id.as_str(), secret).await {
            Ok(()) => devices.add_nodes(disk.nodes(&paths)).await,
            refused => refused,
        };
        devices.take_back(&paths).await?;
        weft_crash_points::point("guest.plug_volume.nodes_added");
        let plugged = match added {
            Ok(()) => devices.execute("device_add", disk.device()).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if plugged.is_err() {
            // A file that stayed open here would keep its room when the volume is removed. The first
            // error is the one to tell.
            let _ = devices.remove_nodes(&disk.volume_id).await;
        }
        plugged
    }

    /// Whether the guest has the volume. What one that it has let go of left open is closed first.
    ///
    /// # Errors
    /// [`GuestError::StartsJustNow`]; [`GuestError::KeepsVolume`]; QEMU does not answer.
    pub async fn has_volume_open(
        &self,
        id: &InstanceId,
        volume_id: &VolumeId,
    ) -> Result<bool, GuestError> {
        if !self.has_disks_open(id).await? {
            return Ok(false);
        }
        let devices = Devices::of(self, id).await?;
        if GuestVolumes::of(&devices.names().await?).attached.contains(volume_id) {
            return Ok(true);
        }
        devices.remove_nodes(volume_id).await?;
        devices.take_back_all(volume_id.as_str()).await?;
        Ok(false)
    }

    /// Makes a disk of a guest that runs larger; `device` is what QEMU calls it. The guest sees it at
    /// once. Where it has that size already, nothing happens.
    ///
    /// # Errors
    /// The guest does not run, has no such disk, or QEMU refused.
    pub async fn grow_disk(
        &self,
        id: &InstanceId,
        device: &str,
        size_bytes: u64,
    ) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        let node = top_of(&devices, id, device).await?;
        let arguments = json!({ "node-name": node, "size": size_bytes });
        let grown = devices.execute("block_resize", arguments).await;
        weft_crash_points::point("guest.grow.grown");
        grown.map(|_| ())
    }

    /// Has a guest let go of a volume, and closes its files. Gone already is success.
    ///
    /// # Errors
    /// [`GuestError::KeepsVolume`]; QEMU does not answer.
    pub async fn unplug_volume(
        &self,
        id: &InstanceId,
        volume_id: &VolumeId,
    ) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        if !devices.let_go(volume_id).await? {
            return Err(devices.keeps(volume_id));
        }
        weft_crash_points::point("guest.unplug_volume.device_gone");
        devices.remove_nodes(volume_id).await?;
        devices.take_back_all(volume_id.as_str()).await
    }
}

impl Devices<'_> {
    fn keeps(&self, volume_id: &VolumeId) -> GuestError {
        GuestError::KeepsVolume {
            id: self.id.clone(),
            volume_id: volume_id.clone(),
            seconds: LET_GO_DEADLINE.as_secs(),
        }
    }

    async fn add_nodes(&self, nodes: Vec<Value>) -> Result<(), GuestError> {
        for node in nodes {
            self.execute("blockdev-add", node).await?;
        }
        Ok(())
    }

    /// Closes the files of a volume that no device has, what lies above before what lies below, and
    /// takes back what decrypts them. A device that is gone by its name has its node for a moment
    /// longer, and QEMU refuses to remove it: until then the file stays locked, and no other guest gets
    /// it.
    async fn remove_nodes(&self, volume_id: &VolumeId) -> Result<(), GuestError> {
        let started = Instant::now();
        let mut told = false;
        loop {
            let graph = BlockGraph::of(self).await?;
            let nodes = graph.connected(|node| is_named_after(volume_id.as_str(), node));
            if nodes.is_empty() {
                return self.take_secret(volume_id.as_str()).await;
            }
            if started.elapsed() > LET_GO_DEADLINE {
                return Err(self.keeps(volume_id));
            }
            if std::mem::replace(&mut told, true) {
                sleep(POLL_INTERVAL).await;
            }
            for name in nodes {
                self.execute_or_not("blockdev-del", json!({ "node-name": name })).await?;
            }
        }
    }
}
