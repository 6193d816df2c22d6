//! Volumes of a guest on a real QEMU: there from the start, plugged in later, grown while it runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use weft_hypervisor::{BackingImage, VolumeDisk};
use weft_model::{DiskFormat, VolumeId};

use super::bench::{Bench, boot_sector, holder};

const MIB: u64 = 1 << 20;

/// A disk of 8 MiB over a raw image, or over nothing.
pub(crate) fn disk(bench: &Bench, n: u8, port: u8, over_image: bool) -> VolumeDisk {
    let path = bench.dir.path().join(format!("volume-{n}.qcow2"));
    let mut qemu_img = Command::new("qemu-img");
    qemu_img.args(["create", "-q", "-f", "qcow2"]);
    let mut below = Vec::new();
    if over_image {
        let image = bench.dir.path().join(format!("below-{n}.raw"));
        std::fs::write(&image, vec![n; 4096]).unwrap();
        qemu_img.args(["-F", "raw", "-b"]).arg(&image);
        below.push(BackingImage { path: image, format: DiskFormat::Raw });
    }
    assert!(qemu_img.arg(&path).arg("8M").status().unwrap().success());
    VolumeDisk {
        volume_id: VolumeId::from_random([n; 9]),
        port,
        disk: path,
        below,
        encrypted: false,
    }
}

/// How often the process has the file open.
pub(crate) fn times_open(pid: i32, path: &Path) -> usize {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = links.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link: &PathBuf| link == path).count()
}

fn virtual_size(path: &Path) -> u64 {
    let mut qemu_img = Command::new("qemu-img");
    qemu_img.args(["info", "-U", "--output=json"]).arg(path);
    let shown = qemu_img.output().unwrap().stdout;
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    shown["virtual-size"].as_u64().unwrap()
}

#[tokio::test]
async fn a_guest_has_volumes_from_its_start_and_gets_others_while_it_runs() {
    let Some(bench) = Bench::new() else { return };
    let (early, late) = (disk(&bench, 1, 1, true), disk(&bench, 2, 2, false));
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.volumes = vec![early.clone()];
    bench.guests.launch(&spec, &holder()).await.unwrap();
    let id = &spec.instance_id;
    let pid = bench.running(id).await.qemu.pid;
    let volumes = bench.guests.devices(id).await.unwrap().1;
    assert!(volumes.can_be_given);
    assert_eq!(volumes.attached, [early.volume_id.clone()].into());

    bench.guests.plug_volume(id, &late, None).await.unwrap();
    bench.guests.plug_volume(id, &late, None).await.unwrap();
    let both = [early.volume_id.clone(), late.volume_id.clone()];
    assert_eq!(bench.guests.devices(id).await.unwrap().1.attached, both.into());
    assert_eq!(times_open(pid, &late.disk), 1, "nothing but its node keeps it open");

    // One guest at a time: another one is refused the file, and nothing of it stays there.
    let other = bench.launch(boot_sector::HELLO).await;
    let refused = bench.guests.plug_volume(&other.instance_id, &late, None).await.unwrap_err();
    let text =
        format!("{refused}: {:?}", std::error::Error::source(&refused).map(ToString::to_string));
    assert!(text.contains("lock"), "{text}");
    let other_pid = bench.running(&other.instance_id).await.qemu.pid;
    assert_eq!(times_open(other_pid, &late.disk), 0);
    assert_eq!(bench.guests.devices(&other.instance_id).await.unwrap().1.attached, [].into());

    for volume in [&early, &late] {
        bench.guests.grow_disk(id, volume.volume_id.as_str(), 32 * MIB).await.unwrap();
        bench.guests.grow_disk(id, volume.volume_id.as_str(), 32 * MIB).await.unwrap();
        assert_eq!(virtual_size(&volume.disk), 32 * MIB);
    }
    bench.finish().await;
}
