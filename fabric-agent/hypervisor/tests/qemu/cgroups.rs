//! What a guest may take, and that nothing of it stays.

use std::fs;
use std::path::{Path, PathBuf};

use weft_hypervisor::{Cgroups, ExitCause, GuestObservation, Guests};

use crate::bench::{Bench, boot_sector, kill, wait_for};

/// The directories of a process's groups that are below `weft.slice`, where this machine has them
/// mounted.
pub(crate) fn groups(pid: i32) -> Vec<PathBuf> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut found = Vec::new();
    for line in table.lines().filter(|line| line.contains(":/weft.slice/")) {
        let fields: Vec<&str> = line.splitn(3, ':').collect();
        let root = Path::new("/sys/fs/cgroup").join(fields[1]);
        found.push(root.join(fields[2].trim_start_matches('/')));
    }
    found
}

/// What processes of a group use, in bytes, in either version.
const MEMORY_USED: [&str; 2] = ["memory.current", "memory.usage_in_bytes"];

pub(crate) fn limit(groups: &[PathBuf], files: [&str; 2]) -> Option<u64> {
    let paths = groups.iter().flat_map(|group| files.map(|file| group.join(file)));
    paths.into_iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
}

#[tokio::test]
async fn holder_and_qemu_are_in_a_group_with_limits_that_goes_with_the_guest() {
    let Some(bench) = Bench::limited("hv1") else { return };
    let spec = bench.launch(boot_sector::HELLO).await;
    let id = &spec.instance_id;
    let guest = bench.running(id).await;
    let found = groups(guest.qemu.pid);
    assert!(!found.is_empty());
    assert_eq!(found, groups(guest.holder.pid));
    let name = found[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with(&format!("hv1-{id}")), "{name}");
    // 64 MiB for the guest, 32 for TCG's cache, 64 and 256 besides.
    let memory = limit(&found, ["memory.max", "memory.limit_in_bytes"]);
    assert_eq!(memory, Some((64 + 32 + 64 + 256) << 20));
    assert_eq!(limit(&found, ["pids.max", "pids.max"]), Some(129));
    assert!(matches!(limit(&found, ["cpu.weight", "cpu.shares"]), Some(100 | 1024)));

    bench.guests.quit(id).await.unwrap();
    for group in &found {
        assert!(!group.exists(), "{} is left", group.display());
    }
    // Its next start has a group again.
    bench.guests.launch(&spec, &crate::bench::holder()).await.unwrap();
    assert_eq!(groups(bench.running(id).await.qemu.pid).len(), found.len());
    bench.finish().await;
    for group in &found {
        assert!(!group.exists(), "{} is left", group.display());
    }
}

#[tokio::test]
async fn groups_that_guests_left_are_swept_and_those_in_use_are_not() {
    let Some(bench) = Bench::limited("hv2") else { return };
    let (left, kept) =
        (bench.launch(boot_sector::HELLO).await, bench.launch(boot_sector::HELLO).await);
    let guest = bench.running(&left.instance_id).await;
    let found = groups(guest.qemu.pid);
    // Nobody looks at the guest any more: its records are lost.
    kill(guest.holder.pid);
    kill(guest.qemu.pid);
    wait_for("the end of qemu", async || (!guest.qemu.is_alive()).then_some(())).await;
    let cgroups = Cgroups::find("hv2");
    wait_for("the group's removal", async || {
        cgroups.sweep().unwrap();
        (!found.iter().any(|group| group.exists())).then_some(())
    })
    .await;
    cgroups.remove_slice().unwrap();
    assert!(!groups(bench.running(&kept.instance_id).await.qemu.pid).is_empty());
    bench.finish().await;
}

/// An agent that is purged takes the slice along while nothing is in it, another agent's guests come
/// later.
#[tokio::test]
async fn a_guest_starts_also_after_the_empty_slice_was_removed() {
    let Some(bench) = Bench::limited("hv5") else { return };
    let spec = bench.launch(boot_sector::HELLO).await;
    let id = &spec.instance_id;
    let found = groups(bench.running(id).await.qemu.pid);
    let slices: Vec<&Path> = found.iter().map(|group| group.parent().unwrap()).collect();
    bench.guests.quit(id).await.unwrap();
    Cgroups::find("hv5").remove_slice().unwrap();
    if slices.iter().any(|slice| slice.exists()) {
        println!("SKIPPED: guests of somebody else are in weft.slice");
        return bench.finish().await;
    }
    bench.guests.launch(&spec, &crate::bench::holder()).await.unwrap();
    assert_eq!(groups(bench.running(id).await.qemu.pid), found);
    bench.finish().await;
}

#[tokio::test]
async fn no_process_is_started_in_a_group_beyond_its_limit() {
    let Some(bench) = Bench::limited("hv3") else { return };
    let spec = bench.launch(boot_sector::HELLO).await;
    let guest = bench.running(&spec.instance_id).await;
    let found = groups(guest.qemu.pid);
    let group = found.iter().find(|group| group.join("pids.max").exists()).unwrap();
    fs::write(group.join("pids.max"), "1").unwrap();
    let said = std::process::Command::new("sh")
        .args(["-c", "echo $$ > \"$0/cgroup.procs\"; /bin/true; exit $?"])
        .arg(group)
        .output()
        .unwrap();
    assert!(!said.status.success(), "a fork over the limit succeeded");
    bench.running(&spec.instance_id).await;
    bench.finish().await;
}

#[tokio::test]
async fn a_guest_that_the_kernel_killed_for_want_of_memory_is_told_from_one_that_somebody_killed() {
    let Some(bench) = Bench::limited("hv6") else { return };
    let spec = bench.launch(boot_sector::HELLO).await;
    let id = &spec.instance_id;
    let guest = bench.running(id).await;
    let found = groups(guest.qemu.pid);
    let allowed = limit(&found, ["memory.max", "memory.limit_in_bytes"]).unwrap();
    let group =
        found.iter().find(|group| limit(&[(*group).clone()], MEMORY_USED).is_some()).unwrap();
    // Another takes so much that there is no room for QEMU beside it, and is the last to be killed.
    fs::write(format!("/proc/{}/oom_score_adj", guest.qemu.pid), "1000").unwrap();
    let takes = allowed - (8 << 20);
    let mut hog = std::process::Command::new("sh");
    hog.args(["-c", "echo 0 >\"$0/cgroup.procs\"; exec \"$@\""]).arg(group);
    // It may go as well, while QEMU's memory is being freed.
    hog.args(["dd", "if=/dev/zero", "of=/dev/null", "count=1", &format!("bs={takes}")]);
    hog.output().unwrap();
    let cause =
        wait_for("the end of qemu", async || match bench.guests.observe(id).await.unwrap() {
            GuestObservation::Exited { exit } => Some(exit.cause),
            _ => None,
        });
    assert_eq!(cause.await, ExitCause::OutOfMemory);

    bench.guests.launch(&spec, &crate::bench::holder()).await.unwrap();
    kill(bench.running(id).await.qemu.pid);
    let cause =
        wait_for("the end of qemu", async || match bench.guests.observe(id).await.unwrap() {
            GuestObservation::Exited { exit } => Some(exit.cause),
            _ => None,
        });
    assert_eq!(cause.await, ExitCause::Signal(9));
    bench.finish().await;
}

/// Inside `ip netns exec`, where an agent may have been started, `/sys` is another.
#[tokio::test]
async fn groups_are_found_where_nothing_is_mounted() {
    let Some(mut bench) = Bench::limited("hv4") else { return };
    let spec = bench.launch(boot_sector::HELLO).await;
    let found = groups(bench.running(&spec.instance_id).await.qemu.pid);
    let root = bench.dir.path().join("guests");
    let thread = std::thread::spawn(move || {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .unwrap();
        mount(Some("none"), "/sys", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        assert!(!Path::new("/sys/fs").exists());
        let later = Guests::in_cgroups(root, Cgroups::prepare("hv4"));
        later.cgroups().explain().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { later.purge(&spec.instance_id).await.unwrap() });
    });
    // Here the first connection to QEMU is closed, as when its agent has ended.
    bench.guests = bench.other_agent();
    tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    for group in &found {
        assert!(!group.exists(), "{} is left", group.display());
    }
    bench.finish().await;
}
