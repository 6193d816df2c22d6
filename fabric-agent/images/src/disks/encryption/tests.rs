use std::process::Command;

use tempfile::TempDir;
use weft_model::KEY_BYTES;
use zeroize::Zeroizing;

use super::*;
use crate::disks::{Backing, DiskSpec, RootDisks, SealSpec};

const MIB: u64 = 1 << 20;
/// What is written to a disk, as `qemu-io` repeats it.
const PATTERN: u8 = 0x5a;

fn secret(byte: u8) -> DataSecret {
    DataSecret::from_random(&Zeroizing::new([byte; KEY_BYTES]))
}

/// Runs `qemu-io` on a disk over `below`, whose files are all encrypted with `secret`; whether that
/// went well, and what it said.
fn qemu_io(command: &str, files: &[&Path], secret: &DataSecret) -> (bool, String) {
    let mut node = serde_json::Value::Null;
    for file in files {
        node = serde_json::json!({
            "driver": "qcow2", "backing": node, "encrypt": { "format": "luks", "key-secret": "key" },
            "file": { "driver": "file", "filename": file },
        });
    }
    let object = format!("secret,id=key,data={}", secret.reveal());
    let disk = format!("json:{node}");
    let output =
        Command::new("qemu-io").args(["--object", &object, "-c", command, &disk]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn disks() -> Option<RootDisks> {
    if Command::new("qemu-io").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no qemu-io on this machine");
        return None;
    }
    Some(RootDisks::new("qemu-img", Limits::default()))
}

#[tokio::test]
async fn a_disk_its_layers_and_what_it_grows_by_are_encrypted_with_one_secret() {
    let Some(disks) = disks() else { return };
    let dir = TempDir::new().unwrap();
    let (secret, other) = (secret(0xa1), secret(0xb2));
    let path = dir.path().join("disk.qcow2");
    let spec = DiskSpec { path: path.clone(), size_bytes: 16 * MIB, below: None };
    disks.create_disk(&spec, Some(&secret)).await.unwrap();
    assert_eq!(disks.disk_bytes(&path).await.unwrap(), Some(16 * MIB));

    let write = format!("write -q -P {PATTERN} 0 1M");
    let (written, said) = qemu_io(&write, &[&path], &secret);
    assert!(written, "{said}");
    let plain = vec![PATTERN; 4096];
    let holds_it = |file: &Path| {
        std::fs::read(file).unwrap().windows(plain.len()).any(|window| window == plain)
    };
    assert!(!holds_it(&path), "what was written is in the file in the clear");
    let (opened, said) = qemu_io("read -q 0 1M", &[&path], &other);
    assert!(!opened && said.contains("Invalid password"), "{said}");

    let layer = dir.path().join("layers").join("layer.qcow2");
    let (top, uid) = (path.clone(), nix::unistd::geteuid().as_raw());
    let seal = SealSpec { top, layer: layer.clone(), size_bytes: 16 * MIB, uid };
    disks.prepare_seal(&seal, Some(&secret)).await.unwrap();
    disks.finish_seal(&seal).await.unwrap();
    disks.grow_disk(&path, 32 * MIB, Some(&secret)).await.unwrap();
    assert_eq!(disks.disk_bytes(&path).await.unwrap(), Some(32 * MIB));

    // A volume that is made of the snapshot.
    let copy = dir.path().join("copy.qcow2");
    let below = Backing { path: layer.clone(), format: weft_model::DiskFormat::Qcow2 };
    let spec = DiskSpec { path: copy.clone(), size_bytes: 32 * MIB, below: Some(below) };
    disks.create_disk(&spec, Some(&secret)).await.unwrap();
    let read = format!("read -q -P {PATTERN} 0 1M");
    for top in [&path, &copy] {
        let (is_there, said) = qemu_io(&read, &[&layer, top], &secret);
        assert!(is_there && !said.contains("verification failed"), "{said}");
        let (written, said) = qemu_io("write -q -P 90 8M 1M", &[&layer, top], &secret);
        assert!(written, "{said}");
        assert!(!holds_it(top));
    }
    assert!(!holds_it(&layer));
}

/// The look for what was written can fail: it finds it where nothing is encrypted.
#[tokio::test]
async fn a_disk_without_a_secret_has_what_was_written_in_the_clear() {
    let Some(disks) = disks() else { return };
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk.qcow2");
    let spec = DiskSpec { path: path.clone(), size_bytes: 16 * MIB, below: None };
    disks.create_disk(&spec, None).await.unwrap();
    let write = format!("write -q -P {PATTERN} 0 1M");
    let arguments = ["-f", "qcow2", "-c", &write];
    assert!(Command::new("qemu-io").args(arguments).arg(&path).status().unwrap().success());
    let plain = vec![PATTERN; 4096];
    assert!(std::fs::read(&path).unwrap().windows(plain.len()).any(|window| window == plain));
}

#[test]
fn a_passphrase_is_for_one_user_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let user = ConfinedUid::take();
    let key = Passphrase::open(&secret(1)).unwrap().lent_to(&user).unwrap();
    let metadata = File::from(key.into_fd()).metadata().unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o400);
    let own = nix::unistd::geteuid();
    let owner = if own.is_root() { user.number() } else { own.as_raw() };
    assert_eq!(metadata.uid(), owner);
}
