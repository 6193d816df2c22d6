//! Encrypted volumes of a guest on a real QEMU: their secrets get there, stay there, and are nowhere
//! else.

use std::path::{Path, PathBuf};
use std::process::Command;

use weft_hypervisor::{MemoryFiles, Resume, VolumeDisk, VolumeSecrets};
use weft_model::{DataSecret, KEY_BYTES, LayerId, VolumeId};
use zeroize::Zeroizing;

use super::bench::{Bench, boot_sector, holder};
use super::memory::{is_read_back, save};

const MIB: u64 = 1 << 20;

fn secret(n: u8) -> DataSecret {
    DataSecret::from_random(&Zeroizing::new([n; KEY_BYTES]))
}

/// An encrypted file of 8 MiB.
fn file(bench: &Bench, name: &str, secret: &DataSecret) -> PathBuf {
    let path = bench.dir.path().join(name);
    let object = format!("secret,id=key,data={}", secret.reveal());
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let mut qemu_img = Command::new("qemu-img");
    qemu_img.args(["create", "-q", "-f", "qcow2", "--object", &object, "-o", options]);
    assert!(qemu_img.arg(&path).arg("8M").status().unwrap().success());
    path
}

fn disk(bench: &Bench, n: u8, port: u8) -> VolumeDisk {
    let disk = file(bench, &format!("encrypted-{n}.qcow2"), &secret(n));
    let volume_id = VolumeId::from_random([n; 9]);
    VolumeDisk { volume_id, port, disk, below: Vec::new(), encrypted: true }
}

/// Whether something in `dir` has the text.
fn is_in(dir: &Path, text: &str) -> Option<PathBuf> {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    return Some(entry.path());
                }
            }
        }
    }
    None
}

#[tokio::test]
async fn encrypted_volumes_come_go_grow_and_outlive_their_qemu() {
    let Some(bench) = Bench::new() else { return };
    let (early, late) = (disk(&bench, 1, 1), disk(&bench, 2, 2));
    let next = file(&bench, "next.qcow2", &secret(2));
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.volumes = vec![early.clone()];
    let (id, guests) = (spec.instance_id.clone(), &bench.guests);

    let error = guests.launch(&spec, &holder()).await.unwrap_err().to_string();
    assert!(error.contains("nobody gave the secret of the encrypted volume vol-"), "{error}");
    let wrong: VolumeSecrets = [(early.volume_id.clone(), secret(9))].into();
    let error = guests.launch_with(&spec, &holder(), &wrong).await.unwrap_err().to_string();
    assert!(error.contains("Invalid password"), "{error}");

    let mut secrets: VolumeSecrets = [(early.volume_id.clone(), secret(1))].into();
    guests.launch_with(&spec, &holder(), &secrets).await.unwrap();
    let (volume, layer) = (late.volume_id.as_str(), LayerId::from_random([3; 9]));
    guests.plug_volume(&id, &late, Some(&secret(2))).await.unwrap();
    guests.plug_volume(&id, &late, Some(&secret(2))).await.unwrap();
    for volume in [&early, &late] {
        guests.grow_disk(&id, volume.volume_id.as_str(), 32 * MIB).await.unwrap();
    }
    guests.switch_disk(&id, volume, &layer, &next, true, None).await.unwrap();
    guests.grow_disk(&id, volume, 64 * MIB).await.unwrap();

    let qemu = bench.running(&id).await.qemu.pid;
    for byte in [1, 2] {
        let secret = secret(byte);
        for of in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{qemu}/{of}")).unwrap();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!text.contains(secret.reveal()), "{of}");
        }
        assert_eq!(is_in(&guests.dir(&id), secret.reveal()), None);
    }
    // What looks for it can find something.
    assert!(is_in(&guests.dir(&id), volume).is_none(), "it came after the specification");
    assert!(is_in(&guests.dir(&id), early.volume_id.as_str()).is_some());

    // What was hibernated finds its disks again.
    let files = MemoryFiles::in_dir(bench.dir.path());
    save(&bench, &id, &files).await.unwrap();
    let over = VolumeDisk {
        disk: next,
        below: vec![weft_hypervisor::BackingImage {
            path: late.disk.clone(),
            format: weft_model::DiskFormat::Qcow2,
        }],
        ..late.clone()
    };
    spec.volumes.push(over);
    secrets.insert(late.volume_id.clone(), secret(2));
    spec.epoch += 1;
    let machine = files.machine().unwrap().machine;
    spec.resume = Some(Resume { path: files.saved(), machine, guest_agent: false });
    guests.launch_with(&spec, &holder(), &secrets).await.unwrap();
    is_read_back(&bench, &id).await;
    guests.resume(&id, &files).await.unwrap();
    bench.running(&id).await;
    guests.grow_disk(&id, volume, 128 * MIB).await.unwrap();
    bench.finish().await;
}
