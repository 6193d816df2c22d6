//! A real QEMU goes over from layers of its disks to what they were merged into.

use std::path::{Path, PathBuf};
use std::process::Command;

use weft_hypervisor::{BackingImage, MergedLayers, ROOT_DEVICE, VolumeDisk};
use weft_model::{DiskFormat, LayerId, VolumeId};

use super::bench::{Bench, boot_sector, holder};
use super::volumes::times_open;

/// A qcow2 file over others. What it lies over in its header does not matter: a merge that was not
/// told of all is seen by what QEMU has open.
fn layer(bench: &Bench, name: &str) -> PathBuf {
    let path = bench.dir.path().join(name);
    let mut qemu_img = Command::new("qemu-img");
    assert!(
        qemu_img
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&path)
            .arg("1M")
            .status()
            .unwrap()
            .success()
    );
    path
}

fn open(pid: i32, files: &[&Path]) -> Vec<usize> {
    files.iter().map(|path| times_open(pid, path)).collect()
}

fn merged(
    base: bool,
    layers: usize,
    replaced: std::ops::Range<usize>,
    old: &[&Path],
    (id, path): (u8, &Path),
) -> MergedLayers {
    MergedLayers {
        base,
        layers,
        replaced,
        old: old.iter().map(|path| path.to_path_buf()).collect(),
        merged: LayerId::from_random([id; 9]),
        path: path.to_owned(),
    }
}

#[tokio::test]
async fn a_guest_that_runs_goes_over_to_merged_layers_wherever_they_lie() {
    let Some(bench) = Bench::new() else { return };
    let [a, b, next, last] = ["a", "b", "next", "last"].map(|name| layer(&bench, name));
    let [m, n, v] = ["m", "n", "v"].map(|name| layer(&bench, name));
    let (below, above, disk) =
        (layer(&bench, "below"), layer(&bench, "above"), layer(&bench, "volume"));
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.root.layers = vec![a.clone(), b.clone()];
    let image = |path: &Path| BackingImage { path: path.to_owned(), format: DiskFormat::Qcow2 };
    let volume_id = VolumeId::from_random([9; 9]);
    let below_volume = vec![image(&below), image(&above)];
    let volume = VolumeDisk {
        volume_id: volume_id.clone(),
        port: 1,
        disk,
        below: below_volume,
        encrypted: false,
    };
    spec.volumes = vec![volume.clone()];
    let (id, root) = (&spec.instance_id, spec.root.overlay.clone());
    bench.guests.launch(&spec, &holder()).await.unwrap();
    let pid = bench.running(id).await.qemu.pid;
    let guests = &bench.guests;
    assert!(open(pid, &[&a, &b, &root, &below, &above]).iter().all(|times| *times > 0));

    // Two snapshots: the disk it was started with is a layer, and one that came later.
    for (n, file) in [(1, &next), (2, &last)] {
        let sealed = LayerId::from_random([n; 9]);
        guests.switch_disk(id, ROOT_DEVICE, &sealed, file, false, None).await.unwrap();
    }
    // Between the image and a layer.
    let first = merged(true, 4, 0..2, &[&a, &b], (21, &m));
    guests.go_over_to_merged(id, ROOT_DEVICE, &first).await.unwrap();
    assert_eq!(open(pid, &[&a, &b, &m]), [0, 0, 1]);
    assert!(open(pid, &[&root, &next, &last]).iter().all(|times| *times > 0));
    // Once more, after a crash, say.
    guests.go_over_to_merged(id, ROOT_DEVICE, &first).await.unwrap();
    // What is directly below what the guest writes, with what was merged before.
    let second = merged(true, 3, 0..3, &[&m, &root, &next], (22, &n));
    guests.go_over_to_merged(id, ROOT_DEVICE, &second).await.unwrap();
    assert_eq!(open(pid, &[&m, &root, &next, &n]), [0, 0, 0, 1]);
    assert!(times_open(pid, &last) > 0);

    // A chain that is another one is left alone.
    let other = merged(true, 3, 0..3, &[&m, &root, &next], (23, &m));
    let error = guests.go_over_to_merged(id, ROOT_DEVICE, &other).await.unwrap_err();
    assert!(error.refused() && !error.is_retryable(), "{error}");
    assert_eq!(open(pid, &[&m, &n]), [0, 1]);

    // All that a volume lies over.
    let all = merged(false, 2, 0..2, &[&below, &above], (24, &v));
    guests.go_over_to_merged(id, volume_id.as_str(), &all).await.unwrap();
    assert_eq!(open(pid, &[&below, &above, &v]), [0, 0, 1]);
    assert!(times_open(pid, &volume.disk) > 0);

    // It goes on as any other: it grows, and is sealed.
    guests.grow_disk(id, ROOT_DEVICE, 8 << 20).await.unwrap();
    guests.grow_disk(id, volume_id.as_str(), 8 << 20).await.unwrap();
    let sealed = LayerId::from_random([3; 9]);
    let more = layer(&bench, "more");
    guests.switch_disk(id, volume_id.as_str(), &sealed, &more, false, None).await.unwrap();
    assert!(times_open(pid, &more) > 0);
    bench.running(id).await;
    bench.finish().await;
}
