//! A volume as QEMU is told of it: the same on its command line and over QMP.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weft_model::{DiskFormat, VolumeId};

use super::BackingImage;

/// A volume of a guest.
///
/// QEMU calls its device and its top node after the volume; what lies below is that name with `-b`
/// and a number, from the lowest, and each file is its node's name with `-f`. Node names have 31
/// bytes at most (QEMU `include/block/block_int-common.h`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeDisk {
    /// Which.
    pub volume_id: VolumeId,
    /// The root port that it is plugged into, from 1.
    pub port: u8,
    /// What the guest writes, always qcow2.
    pub disk: PathBuf,
    /// What lies below it, from the lowest to the highest. Given here and not taken from headers.
    pub below: Vec<BackingImage>,
    /// Whether all of it is encrypted, each file with a LUKS header of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
}

impl VolumeDisk {
    /// What QEMU calls a root port for volumes.
    pub(crate) fn port_name(port: u8) -> String {
        format!("disk-port{port}")
    }

    /// What QEMU calls the secret of an encrypted volume: it opens each of its files with that.
    pub(crate) fn key_name(volume_id: &str) -> String {
        format!("key-{volume_id}")
    }

    /// The files to open, and whether for writing: as [`Self::nodes`] takes them.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, bool)> {
        let below = self.below.iter().map(|image| (image.path.as_path(), false));
        below.chain([(self.disk.as_path(), true)])
    }

    /// The arguments of `blockdev-add` for each of its nodes, from the lowest; `opened` is what QEMU
    /// calls [`Self::files`]. Files have nodes of their own: QEMU would open the file of an inner one
    /// anew when its disk becomes read-only below a snapshot.
    pub(crate) fn nodes(&self, opened: &[String]) -> Vec<Value> {
        let mut nodes = Vec::new();
        let mut below = Value::Null;
        for (index, (image, file)) in self.below.iter().zip(opened).enumerate() {
            let node = below_node(&self.volume_id, index);
            let driver = match image.format {
                DiskFormat::Raw => "raw",
                DiskFormat::Qcow2 => "qcow2",
            };
            nodes.push(json!({
                "driver": "file", "node-name": file_node(&node), "filename": file,
                "read-only": true,
            }));
            let mut disk = json!({
                "driver": driver, "node-name": node, "file": file_node(&node), "read-only": true,
            });
            if image.format == DiskFormat::Qcow2 {
                // Whatever the header names, nothing else is opened.
                disk["backing"] = below;
            }
            self.decrypt(&mut disk);
            nodes.push(disk);
            below = Value::from(node);
        }
        let (node, file) = (self.volume_id.as_str(), opened.last());
        nodes.push(json!({
            "driver": "file", "node-name": file_node(node), "filename": file, "discard": "unmap",
        }));
        let mut disk = json!({
            "driver": "qcow2", "node-name": node, "file": file_node(node), "backing": below,
            "discard": "unmap",
        });
        self.decrypt(&mut disk);
        nodes.push(disk);
        nodes
    }

    fn decrypt(&self, node: &mut Value) {
        if self.encrypted {
            node["encrypt"] = decryption(self.volume_id.as_str());
        }
    }

    /// The arguments of `device_add`.
    pub(crate) fn device(&self) -> Value {
        json!({
            "driver": "virtio-blk-pci",
            "id": self.volume_id,
            "drive": self.volume_id,
            "serial": self.volume_id.serial(),
            "bus": Self::port_name(self.port),
        })
    }
}

/// How QEMU opens a node of an encrypted volume. A file without a LUKS header is refused then.
pub(crate) fn decryption(volume_id: &str) -> Value {
    json!({ "format": "luks", "key-secret": VolumeDisk::key_name(volume_id) })
}

fn below_node(volume_id: &VolumeId, index: usize) -> String {
    format!("{volume_id}-b{index}")
}

fn file_node(node: &str) -> String {
    format!("{node}-f")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(below: Vec<BackingImage>) -> VolumeDisk {
        let volume_id = "vol-0123456789abcdef0".parse().unwrap();
        VolumeDisk { volume_id, port: 2, disk: "/v".into(), below, encrypted: false }
    }

    #[test]
    fn a_disk_lies_over_what_its_record_says_and_over_nothing_else() {
        let image = |path: &str, format| BackingImage { path: path.into(), format };
        let disk = disk(vec![image("/raw", DiskFormat::Raw), image("/layer", DiskFormat::Qcow2)]);
        let files: Vec<_> = disk.files().collect();
        let want = [("/raw", false), ("/layer", false), ("/v", true)];
        assert_eq!(files, want.map(|(path, write)| (Path::new(path), write)));
        let opened = ["/dev/fdset/1", "/dev/fdset/2", "/dev/fdset/3"].map(str::to_owned);
        let nodes = disk.nodes(&opened);
        let name = |node: &Value| node["node-name"].as_str().unwrap().to_owned();
        let own = "vol-0123456789abcdef0";
        let names: Vec<String> = nodes.iter().map(name).collect();
        let below = [format!("{own}-b0-f"), format!("{own}-b0"), format!("{own}-b1-f")];
        let top = [format!("{own}-b1"), format!("{own}-f"), own.to_owned()];
        assert_eq!(names, [below, top].concat());
        assert_eq!(nodes[1].get("backing"), None);
        assert_eq!(nodes[3]["backing"], format!("{own}-b0"));
        assert_eq!(nodes[5]["backing"], format!("{own}-b1"));
        assert!(names.iter().all(|name| name.len() <= 31));
    }

    #[test]
    fn an_empty_disk_opens_nothing_that_its_header_names() {
        let nodes = disk(Vec::new()).nodes(&["/dev/fdset/7".to_owned()]);
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[1].get("backing"), Some(&Value::Null));
        assert_eq!(disk(Vec::new()).device()["serial"], "vol0123456789abcdef0");
    }

    #[test]
    fn each_layer_of_an_encrypted_volume_is_opened_with_its_secret() {
        let layer = BackingImage { path: "/layer".into(), format: DiskFormat::Qcow2 };
        let plain = disk(vec![layer]);
        let encrypted = VolumeDisk { encrypted: true, ..plain.clone() };
        let opened = ["/dev/fdset/1", "/dev/fdset/2"].map(str::to_owned);
        let keys = |disk: &VolumeDisk| -> Vec<Option<Value>> {
            let nodes = disk.nodes(&opened).into_iter();
            let nodes = nodes.filter(|node| node["driver"] == "qcow2");
            nodes.map(|node| node.get("encrypt").cloned()).collect()
        };
        let luks = json!({ "format": "luks", "key-secret": "key-vol-0123456789abcdef0" });
        assert_eq!(keys(&encrypted), [Some(luks.clone()), Some(luks)]);
        assert_eq!(keys(&plain), [None, None]);
    }
}
