//! What disks may do each second, on a real QEMU.

use std::path::PathBuf;
use std::process::Command;

use weft_hypervisor::{ROOT_DEVICE, VolumeDisk};
use weft_model::{DiskLimits, LayerId, Throttle, Throttles};

use crate::bench::{Bench, boot_sector, holder};
use crate::volumes::disk;

/// An empty disk for a guest to go over to.
pub(crate) fn next_disk(bench: &Bench) -> PathBuf {
    let path = bench.dir.path().join("next.qcow2");
    let mut qemu_img = Command::new("qemu-img");
    qemu_img.args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("8M");
    assert!(qemu_img.status().unwrap().success());
    path
}

#[tokio::test]
async fn disks_are_kept_to_limits_that_change_live_and_survive_a_snapshot() {
    let Some(bench) = Bench::new() else { return };
    let (early, late) = (disk(&bench, 1, 1, true), disk(&bench, 2, 2, false));
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.volumes = vec![early.clone()];
    bench.guests.launch(&spec, &holder()).await.unwrap();
    let (id, guests) = (&spec.instance_id, &bench.guests);
    let is = |iops, throughput_mibps| Throttle::Limits(DiskLimits { iops, throughput_mibps });
    let expect = async |root, volumes: &[(&VolumeDisk, Throttle)]| {
        let volumes = volumes.iter().map(|(disk, it)| (disk.volume_id.clone(), *it));
        let want = Throttles { root: Some(root), volumes: volumes.collect() };
        assert_eq!(guests.throttles(id).await.unwrap(), want);
    };
    let limit = async |device: &str, iops, throughput_mibps| {
        let limits = DiskLimits { iops, throughput_mibps };
        guests.limit_disk(id, device, limits).await.unwrap();
    };
    let none = is(None, None);
    expect(none, &[(&early, none)]).await;

    guests.plug_volume(id, &late, None).await.unwrap();
    limit(ROOT_DEVICE, Some(200), Some(3)).await;
    limit(late.volume_id.as_str(), Some(100), None).await;
    limit(late.volume_id.as_str(), Some(100), None).await;
    limit(early.volume_id.as_str(), None, Some(10_000)).await;
    let (early_is, late_is) = (is(None, Some(10_000)), is(Some(100), None));
    expect(is(Some(200), Some(3)), &[(&early, early_is), (&late, late_is)]).await;

    // The top is another node then.
    let (layer, next) = (LayerId::from_random([3; 9]), next_disk(&bench));
    guests.switch_disk(id, late.volume_id.as_str(), &layer, &next, false, None).await.unwrap();
    expect(is(Some(200), Some(3)), &[(&early, early_is), (&late, late_is)]).await;
    limit(late.volume_id.as_str(), Some(256_000), Some(1)).await;
    limit(early.volume_id.as_str(), None, None).await;
    limit(ROOT_DEVICE, None, None).await;
    expect(none, &[(&early, none), (&late, is(Some(256_000), Some(1)))]).await;

    let gone = guests.limit_disk(id, "vol-0123456789abcdef0", DiskLimits::default()).await;
    assert!(gone.unwrap_err().to_string().contains("no disk"));
    bench.finish().await;
}
