use weft_hypervisor::QemuVersion;
use weft_images::SealSpec;
use weft_model::{HostId, LayerId, VolumeId};

use super::*;
use crate::error_chain::ErrorChain;
use crate::host::Done;
use crate::host::linux::layers::Encryption;

/// Guests of which none is ever started.
fn guests(dir: &Path) -> LinuxGuests {
    let instances = dir.join("instances");
    make_dir(&instances).unwrap();
    let directories = Directories {
        state_dir: dir.to_owned(),
        runtime_dir: dir.join("run"),
        prefix: "weft".to_owned(),
    };
    LinuxGuests {
        guests: Guests::new(dir.join("guests")),
        qemu: QemuBinary {
            path: "/nonexistent/qemu".into(),
            version: QemuVersion { major: 7, minor: 2, micro: 0 },
            kvm_device_option: false,
        },
        accel: Accel::Tcg { tb_size_mib: 128 },
        holder: HolderCommand { program: "/nonexistent/holder".into(), args: Vec::new() },
        disks: RootDisks::new("qemu-img", Limits::default()),
        pools: Pools::of(&directories, &[], &HostId::from_random([1; 9])).unwrap(),
        instances,
    }
}

#[tokio::test]
async fn a_host_key_without_its_seed_is_seen_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let guests = guests(dir.path());
    let id = InstanceId::from_random([1; 9]);
    assert_eq!(guests.observe(&id).await.unwrap(), SeenGuest::default());

    // As an agent leaves it that dies while it writes the seed.
    make_dir(&guests.dir(&id)).unwrap();
    std::fs::write(guests.credentials(&id), "the private half").unwrap();
    let seen = guests.observe(&id).await.unwrap();
    assert!(seen.folder && !seen.seed && !seen.root_disk, "{seen:?}");
    assert_eq!(guests.list().unwrap(), [id.clone()].into());

    guests.remove_disks(&id).await.unwrap();
    assert_eq!(guests.observe(&id).await.unwrap(), SeenGuest::default());
    assert!(!guests.dir(&id).exists());
}

#[tokio::test]
async fn a_volume_that_no_guest_has_any_more_is_not_taken_for_one_that_was_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let guests = guests(dir.path());
    let (id, layer) = (VolumeId::from_random([1; 9]), LayerId::from_random([1; 9]));
    let spec = SealSpec {
        top: dir.path().join("disk.qcow2"),
        layer: dir.path().join("layer.qcow2"),
        size_bytes: 1 << 20,
        uid: nix::unistd::getuid().as_raw(),
    };
    let mut qemu_img = std::process::Command::new("qemu-img");
    qemu_img.args(["create", "-q", "-f", "qcow2"]).arg(&spec.top).arg("1M");
    assert!(qemu_img.status().unwrap().success());
    let seal =
        async |freeze| guests.seal_volume(&id, &spec, &layer, None, Encryption::None, freeze).await;
    let there = || [&spec.top, &spec.layer, &spec.next()].map(|path| path.exists());

    let error = seal(true).await.unwrap_err();
    assert!(!error.is_retryable(), "{}", ErrorChain(&error));
    assert!(
        ErrorChain(&error).to_string().contains("has the disk no more"),
        "{}",
        ErrorChain(&error)
    );
    assert_eq!(there(), [true, false, false]);
    // Its guest may have gone over to the next file before it went.
    guests.disks.prepare_seal(&spec, None).await.unwrap();
    for _ in 0..2 {
        let done = seal(true).await.unwrap();
        assert!(
            matches!(&done, Done::InVain(why) if why.starts_with("snapshot the disk") && why.contains("no more")),
            "{done:?}"
        );
        assert_eq!(there(), [true, true, false]);
    }
    // Where nobody had it there was nobody to be frozen.
    assert_eq!(seal(false).await.unwrap(), Done::AsAsked);
}
