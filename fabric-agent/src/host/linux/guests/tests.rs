use weft_hypervisor::QemuVersion;
use weft_model::HostId;

use super::*;

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
