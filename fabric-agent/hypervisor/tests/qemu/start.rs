//! What QEMU is started as, and what is said when it cannot be.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use weft_hypervisor::{
    Accel, Boot, ExitCause, Firmware, GuestError, GuestObservation, Guests, HolderCommand,
    KvmProbe, NicSpec,
};

use crate::bench::{Bench, boot_sector, holder, kill, tiny_kernel, wait_for};

#[tokio::test]
async fn qemu_runs_as_the_guests_own_user_in_its_sandbox() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.launch(boot_sector::HELLO).await;
    let guest = bench.running(&spec.instance_id).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", guest.qemu.pid)).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let uid = spec.uid.to_string();
    assert!(spec.uid >= 1_900_000_000);
    assert_eq!(field("Uid"), vec![uid.clone(); 4]);
    assert_eq!(field("Gid"), vec![uid; 4]);
    assert_eq!(field("Groups"), Vec::<String>::new());
    // Mode 2 is a filter: proc_pid_status(5).
    assert_eq!((field("Seccomp"), field("NoNewPrivs")), (vec!["2".into()], vec!["1".into()]));
    assert_eq!(field("CapEff"), ["0000000000000000"]);
    bench.finish().await;
}

#[tokio::test]
async fn what_the_agents_parent_left_open_is_not_inherited() {
    let Some(bench) = Bench::new() else { return };
    let leak = bench.dir.path().join("leak");
    let file = std::fs::File::create(&leak).unwrap();
    let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
    nix::fcntl::fcntl(&file, flags).unwrap();
    let spec = bench.launch(boot_sector::HELLO).await;
    let guest = bench.running(&spec.instance_id).await;
    for pid in [guest.holder.pid, guest.qemu.pid] {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let mut targets = fds.flat_map(|fd| std::fs::read_link(fd.path()));
        assert!(!targets.any(|target| target == leak), "{pid} inherited {leak:?}");
    }
    bench.finish().await;
}

#[tokio::test]
async fn a_qemu_that_refuses_its_arguments_is_quoted() {
    let Some(bench) = Bench::new() else { return };
    let mut spec = bench.spec(boot_sector::HELLO);
    std::fs::write(&spec.root.overlay, b"this is no qcow2 image").unwrap();
    let error = bench.guests.launch(&spec, &holder()).await.unwrap_err();
    assert!(matches!(&error, GuestError::Start { cause: ExitCause::Code(1), .. }), "{error:?}");
    assert!(error.to_string().contains("not in qcow2 format"), "{error}");
    assert!(!error.is_retryable());

    spec.root.overlay = bench.dir.path().join("missing.qcow2");
    let error = bench.guests.launch(&spec, &holder()).await.unwrap_err().to_string();
    assert!(error.contains("open the root disk") && error.contains("missing.qcow2"), "{error}");
    let seen = bench.guests.observe(&spec.instance_id).await.unwrap();
    assert!(matches!(seen, GuestObservation::Exited { .. }), "{seen:?}");
    bench.finish().await;
}

#[tokio::test]
async fn a_holder_that_is_none_is_reported_with_what_it_said() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.spec(boot_sector::HELLO);
    let shell = HolderCommand {
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), "echo no such command >&2; exit 3".to_owned()],
    };
    let error = bench.guests.launch(&spec, &shell).await.unwrap_err();
    assert!(matches!(error, GuestError::HolderEnded { .. }), "{error:?}");
    assert!(error.to_string().contains("no such command"), "{error}");

    let missing = HolderCommand { program: "/nonexistent/agent".into(), args: Vec::new() };
    let error = bench.guests.launch(&spec, &missing).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/agent"), "{error}");
    bench.finish().await;
}

#[tokio::test]
async fn a_direct_boot_runs_the_kernel_though_its_directory_is_closed() {
    let Some(bench) = Bench::new() else { return };
    let (kernel, initrd) = (bench.dir.path().join("vmlinuz"), bench.dir.path().join("initrd"));
    std::fs::write(&kernel, tiny_kernel()).unwrap();
    std::fs::write(&initrd, [0; 512]).unwrap();
    let allow = |path: &Path, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).unwrap();
    };
    allow(bench.dir.path(), 0o700);
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.boot = Boot::DirectKernel {
        kernel: kernel.clone(),
        initrd: Some(initrd.clone()),
        cmdline: "console=ttyS0".to_owned(),
    };
    allow(&kernel, 0o444);
    allow(&initrd, 0o600);
    let error = bench.guests.launch(&spec, &holder()).await.unwrap_err().to_string();
    assert!(error.contains("initrd is not readable by everyone"), "{error}");

    allow(&initrd, 0o444);
    bench.guests.launch(&spec, &holder()).await.unwrap();
    bench.console_contains(&spec.instance_id, "kernel").await;
    bench.finish().await;
}

/// OVMF tells its serial port what it boots from; nothing in this disk is for it.
#[tokio::test]
async fn uefi_firmware_runs_in_the_sandbox_and_writes_the_guests_own_variables() {
    let Some(bench) = Bench::new() else { return };
    let Some(firmware) = Firmware::find() else {
        println!("SKIPPED: {}", Firmware::REMEDY);
        return;
    };
    let variables = bench.dir.path().join("efi-variables.fd");
    std::fs::copy(&firmware.variables, &variables).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&variables, mode).unwrap();
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.memory_mib = 128;
    spec.boot = Boot::Uefi { code: firmware.code, variables: variables.clone() };
    bench.guests.launch(&spec, &holder()).await.unwrap();
    bench.console_contains(&spec.instance_id, "BdsDxe").await;
    // Its boot order is written down before it is tried.
    let template = std::fs::read(&firmware.variables).unwrap();
    wait_for("the variables are written", async || {
        (std::fs::read(&variables).unwrap() != template).then_some(())
    })
    .await;
    bench.finish().await;
}

#[tokio::test]
async fn a_tap_of_another_namespace_is_the_guests_interface() {
    let Some(bench) = Bench::new() else { return };
    let ip = |args: &[&str]| {
        assert!(Command::new("ip").args(args).status().unwrap().success(), "ip {args:?}");
    };
    let namespace = format!("weft-hv-{}", std::process::id());
    ip(&["netns", "add", &namespace]);
    ip(&["-n", &namespace, "tuntap", "add", "t0", "mode", "tap", "vnet_hdr"]);
    let nic = |link: &str| NicSpec {
        link: link.parse().unwrap(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        netns: Some(format!("/run/netns/{namespace}").into()),
        id: None,
        port: None,
    };
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.nics = vec![nic("t9")];
    let missing = bench.guests.launch(&spec, &holder()).await;
    spec.nics = vec![nic("t0")];
    let launched = bench.guests.launch(&spec, &holder()).await;
    let carrier = Command::new("ip").args(["-n", &namespace, "link", "show", "t0"]).output();
    ip(&["netns", "del", &namespace]);

    let error = missing.unwrap_err().to_string();
    assert!(error.contains("open the tap t9: there is no such interface"), "{error}");
    launched.unwrap();
    let carrier = String::from_utf8(carrier.unwrap().stdout).unwrap();
    assert!(carrier.contains("t0"), "{carrier}");
    // The holder keeps the namespace reachable although its name is gone.
    let guest = bench.running(&spec.instance_id).await;
    let paths = bench.other_agent().netns_paths();
    let through = format!("--net={}", paths[0].display());
    let links = Command::new("nsenter").args([&through, "ip", "link"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(links.contains("t0:") && !links.contains("t9:"), "{links}");
    assert_eq!(paths.len(), 1);
    kill(guest.holder.pid);
    wait_for("the end of the holder", async || (!guest.holder.is_alive()).then_some(())).await;
    assert!(bench.guests.netns_paths().is_empty(), "its number may be another's by now");
    bench.finish().await;
}

#[tokio::test]
async fn kvm_is_passed_as_a_descriptor() {
    let Some(bench) = Bench::new() else { return };
    if !std::path::Path::new("/dev/kvm").exists() {
        println!("SKIPPED: there is no /dev/kvm");
        return;
    }
    let mut spec = bench.spec(boot_sector::HELLO);
    if !spec.qemu.kvm_device_option {
        println!("SKIPPED: qemu {} takes no descriptor for /dev/kvm", spec.qemu.version);
        return;
    }
    spec.accel = Accel::Kvm;
    let launched = bench.guests.launch(&spec, &holder()).await;
    if KvmProbe::run(Duration::from_secs(2)).is_usable() {
        launched.unwrap();
        bench.running(&spec.instance_id).await;
    } else {
        // Whatever such a device then fails with, its descriptor was found: "Could not access KVM
        // kernel module" is what `kvm_init` in QEMU's accel/kvm/kvm-all.c says otherwise.
        let error = launched.map_or_else(|error| error.to_string(), |()| String::new());
        println!("SKIPPED in part: {error}");
        assert!(!error.contains("Could not access KVM"), "{error}");
        assert!(!error.contains("open the device"), "{error}");
    }
    bench.finish().await;
}

#[tokio::test]
async fn purge_of_nothing_is_nothing() {
    let root = tempfile::tempdir().unwrap();
    let guests = Guests::new(root.path().join("never-made"));
    let id = "i-0123456789abcdef0".parse().unwrap();
    assert_eq!(guests.list().unwrap(), []);
    assert_eq!(guests.observe(&id).await.unwrap(), GuestObservation::Absent);
    guests.quit(&id).await.unwrap();
    guests.purge(&id).await.unwrap();
}
