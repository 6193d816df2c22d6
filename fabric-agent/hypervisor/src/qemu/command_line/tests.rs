use std::path::PathBuf;

use weft_model::Maxima;

use super::*;
use crate::qemu::{
    BackingImage, GuestParts, MemoryPart, NicSpec, QemuBinary, QemuVersion, RootDisk, VcpuPart,
};

fn spec() -> GuestSpec {
    GuestSpec {
        instance_id: "i-0123456789abcdef0".parse().unwrap(),
        epoch: 1,
        uuid: "00112233-4455-4677-8899-aabbccddeeff".parse().unwrap(),
        name: "web,1".to_owned(),
        uid: 1_900_000_000,
        qemu: QemuBinary {
            path: "/usr/bin/qemu-system-x86_64".into(),
            version: QemuVersion { major: 10, minor: 0, micro: 2 },
            kvm_device_option: true,
        },
        vcpus: 2,
        memory_mib: 512,
        maxima: Default::default(),
        parts: Default::default(),
        accel: Accel::Tcg { tb_size_mib: 128 },
        boot: Boot::Bios,
        root: RootDisk {
            overlay: "/o".into(),
            layers: Vec::new(),
            backing: BackingImage { path: "/b".into(), format: DiskFormat::Qcow2 },
        },
        seed: None,
        credentials: None,
        volumes: Vec::new(),
        resume: None,
        display: false,
        guest_agent: false,
        nics: Vec::new(),
    }
}

fn resume() -> crate::qemu::Resume {
    crate::qemu::Resume { path: "/m".into(), machine: "pc-q35-9.0".to_owned(), guest_agent: false }
}

fn fds() -> GuestFds {
    GuestFds {
        root: 10,
        layers: Vec::new(),
        backing: 11,
        seed: None,
        credentials: None,
        memory: None,
        kernel: None,
        initrd: None,
        efi_code: None,
        efi_variables: None,
        kvm: None,
        volumes: Vec::new(),
        taps: Vec::new(),
        qmp: 12,
        agent: None,
    }
}

fn text(spec: &GuestSpec, fds: &GuestFds) -> String {
    command_line(spec, fds).join(" ")
}

#[test]
fn each_part_of_a_specification_has_its_arguments() {
    let nic = |link: &str, mac: &str| NicSpec {
        link: link.parse().unwrap(),
        mac: mac.parse().unwrap(),
        netns: None,
        id: None,
        port: None,
    };
    let direct = |initrd: Option<PathBuf>| Boot::DirectKernel {
        kernel: "/k".into(),
        initrd,
        cmdline: "console=ttyS0 a,b".to_owned(),
    };
    let plugged = NicSpec {
        id: Some("eni-0123456789abcdef0".parse().unwrap()),
        port: Some(3),
        ..nic("t3", "02:00:00:00:00:03")
    };
    let two_nics = vec![nic("t0", "02:00:00:00:00:01"), nic("t1", "02:00:00:00:00:02")];
    let raw = BackingImage { path: "/b".into(), format: DiskFormat::Raw };
    #[rustfmt::skip]
    let cases: Vec<(&str, GuestSpec, GuestFds, &[&str])> = vec![
        ("the platform", spec(), fds(), &[
            "-nodefaults -no-user-config -display none -sandbox on,obsolete=deny,\
             elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-name guest=web,,1,process=i-0123456789abcdef0",
            "-uuid 00112233-4455-4677-8899-aabbccddeeff -machine q35,",
            "-smp cpus=2,sockets=1,cores=2,threads=1 -m size=512M",
            "-smbios type=1,serial=00112233-4455-4677-8899-aabbccddeeff -no-shutdown",
            "-chardev socket,id=qmp,fd=12,server=on,wait=off -mon chardev=qmp,mode=control",
            "-device virtio-rng-pci",
        ]),
        ("software emulation has a bounded cache", spec(), fds(), &["-accel tcg,tb-size=128 -cpu max"]),
        ("kvm comes as a descriptor", GuestSpec { accel: Accel::Kvm, ..spec() },
            GuestFds { kvm: Some(20), ..fds() },
            &["-add-fd fd=20,set=20 -accel kvm,device=/dev/fdset/20 -cpu host"]),
        ("kvm of an old qemu is opened by name", GuestSpec { accel: Accel::Kvm, ..spec() }, fds(),
            &["-accel kvm -cpu host"]),
        ("the root disk is an overlay with its backing given", spec(), fds(), &[
            "-add-fd fd=11,set=11",
            r#""backing":null,"driver":"qcow2","file":"backing-file","node-name":"backing","read-only":true"#,
            "-add-fd fd=10,set=10",
            r#""backing":"backing","discard":"unmap","driver":"qcow2","file":"root-file","node-name":"root""#,
            "-device virtio-blk-pci,id=root,drive=root,serial=i-0123456789abcdef0,bootindex=1,addr=0x2",
        ]),
        ("layers lie between, each over the one below",
            spec(), GuestFds { layers: vec![60, 61], ..fds() }, &[
            r#""backing":"backing","driver":"qcow2","file":"root-layer0-file","node-name":"root-layer0","read-only":true"#,
            "-add-fd fd=61,set=61",
            r#""driver":"file","filename":"/dev/fdset/61","node-name":"root-layer1-file","read-only":true"#,
            r#""backing":"root-layer0","driver":"qcow2","file":"root-layer1-file","node-name":"root-layer1","read-only":true"#,
            r#""backing":"root-layer1","discard":"unmap","driver":"qcow2","file":"root-file","node-name":"root""#,
        ]),
        ("a raw image lies under an overlay too",
            GuestSpec { root: RootDisk { backing: raw, ..spec().root }, ..spec() }, fds(),
            &[r#""driver":"raw","file":"backing-file","node-name":"backing","read-only":true"#]),
        ("a seed is read-only", GuestSpec { seed: Some("/s".into()), ..spec() },
            GuestFds { seed: Some(30), ..fds() }, &[
            r#""driver":"raw","file":"seed-file","node-name":"seed","read-only":true"#,
            "-device virtio-blk-pci,drive=seed,serial=seed,addr=0x3",
        ]),
        ("credentials are in no argument", spec(), GuestFds { credentials: Some(33), ..fds() }, &[
            "-smbios type=11,path=/proc/self/fd/33",
        ]),
        ("a direct boot", GuestSpec { boot: direct(Some("/i".into())), ..spec() },
            GuestFds { kernel: Some(40), initrd: Some(41), ..fds() },
            &["-kernel /proc/self/fd/40 -initrd /proc/self/fd/41 -append console=ttyS0 a,b"]),
        ("memory is read back and waits", GuestSpec { resume: Some(resume()), ..spec() },
            GuestFds { memory: Some(35), ..fds() }, &[
            "-machine pc-q35-9.0,", "-S", "-add-fd fd=35,set=35,opaque=memory", "-incoming file:/dev/fdset/35"]),
        ("a direct boot without initrd", GuestSpec { boot: direct(None), ..spec() },
            GuestFds { kernel: Some(40), ..fds() },
            &["-kernel /proc/self/fd/40 -append console=ttyS0 a,b"]),
        ("uefi firmware is shared, its variables are the guest's own", spec(),
            GuestFds { efi_code: Some(60), efi_variables: Some(61), ..fds() }, &[
            r#""driver":"raw","file":"efi-code-file","node-name":"efi-code","read-only":true"#,
            r#""driver":"raw","file":"efi-variables-file","node-name":"efi-variables","read-only":false"#,
            "-add-fd fd=61,set=61",
            ",pflash0=efi-code,pflash1=efi-variables",
        ]),
        ("interfaces keep their slots", GuestSpec { nics: two_nics, ..spec() },
            GuestFds { taps: vec![50, 51], ..fds() }, &[
            "-netdev tap,id=net0,fd=50 -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,romfile=,addr=0x10",
            "-netdev tap,id=net1,fd=51 -device virtio-net-pci,netdev=net1,mac=02:00:00:00:00:02,romfile=,addr=0x11",
        ]),
        ("a display is drawn for nobody before somebody comes", GuestSpec { display: true, ..spec() }, fds(), &[
            "-vnc none,share=ignore",
            "-device VGA,id=display,addr=0x1,vgamem_mb=16,edid=on,xres=1280,yres=800",
            "-device virtio-tablet-pci,addr=0xe",
        ]),
        ("the guest's agent has a port of its own", spec(), GuestFds { agent: Some(13), ..fds() }, &[
            "-chardev socket,id=agent,fd=13,server=on,wait=off -device virtio-serial-pci,id=serial,addr=0xc \
             -device virtserialport,bus=serial.0,nr=1,chardev=agent,id=agent,name=org.qemu.guest_agent.0",
        ]),
        ("there is room for seven more", spec(), fds(), &[
            "-device pcie-root-port,id=port1,chassis=1,slot=1,addr=0x5.0x0,multifunction=on",
            "-device pcie-root-port,id=port7,chassis=7,slot=7,addr=0x5.0x6",
        ]),
        ("an interface that can be taken away is in a port, under its own name",
            GuestSpec { nics: vec![plugged], ..spec() }, GuestFds { taps: vec![50], ..fds() }, &[
            "-netdev tap,id=net-eni-0123456789abcdef0,fd=50 -device virtio-net-pci,\
             netdev=net-eni-0123456789abcdef0,mac=02:00:00:00:00:03,romfile=,bus=port3,\
             id=eni-0123456789abcdef0",
        ]),
    ];
    for (name, spec, fds, wanted) in cases {
        let line = text(&spec, &fds);
        for want in wanted {
            assert!(line.contains(want), "{name}: {want}\nnot in\n{line}");
        }
    }
}

#[test]
fn a_guest_may_reboot_and_is_never_daemonized() {
    let line = text(&spec(), &fds());
    assert!(!line.contains("-no-reboot") && !line.contains("-daemonize"), "{line}");
    assert!(!line.contains("/dev/kvm"), "{line}");
    assert!(!line.contains("VGA") && !line.contains("-vnc"), "nobody asked for a display: {line}");
    assert!(!line.contains("virtio-serial"), "a saved memory without one is read back: {line}");
}

#[test]
fn no_argument_names_a_file_of_the_host() {
    let spec = GuestSpec { seed: Some("/s".into()), ..spec() };
    let line = text(&spec, &GuestFds { seed: Some(30), ..fds() });
    for path in ["/o", "/b", "/s"] {
        assert!(!line.split(['"', ' ', ',']).any(|word| word == path), "{path} in {line}");
    }
}

#[test]
fn room_to_grow_is_there_where_it_is_asked_for() {
    #[rustfmt::skip]
    let cases = [
        // vCPUs,   MiB,          what the guest of 2 and 512 is started with
        (None,      None,         "-smp cpus=2,sockets=1,cores=2,threads=1 -m size=512M -rtc"),
        (Some(2),   Some(512),    "-smp cpus=2,sockets=1,cores=2,threads=1 -m size=512M -rtc"),
        (Some(4),   None,         "-smp cpus=2,maxcpus=4,sockets=1,cores=4,threads=1 -m size=512M -rtc"),
        (None,      Some(640),    "cores=2,threads=1 -m size=512M,slots=1,maxmem=640M -rtc"),
        (Some(3),   Some(65_536), "cores=3,threads=1 -m size=512M,slots=64,maxmem=65536M -rtc"),
    ];
    for (vcpus, memory_mib, want) in cases {
        let spec = GuestSpec { maxima: Maxima { vcpus, memory_mib }, ..spec() };
        let line = text(&spec, &fds());
        assert!(line.contains(want), "{want}\nnot in\n{line}");
    }
}

#[test]
fn a_guest_that_had_grown_finds_all_of_it_again() {
    let place = [("core-id".to_owned(), 2), ("socket-id".to_owned(), 0)].into();
    let parts = GuestParts {
        vcpus: vec![VcpuPart { driver: "host-x86_64-cpu".to_owned(), place }],
        memory: vec![MemoryPart { slot: 1, mib: 256, address: Some(1 << 32) }],
    };
    let maxima = Maxima { vcpus: Some(4), memory_mib: Some(1024) };
    let spec = GuestSpec { parts, maxima, resume: Some(resume()), ..spec() };
    assert_eq!(spec.size(), weft_model::GuestSize { vcpus: 3, memory_mib: 768 });
    let line = text(&spec, &fds());
    for want in [
        r#"-object {"id":"memory1","qom-type":"memory-backend-ram","size":268435456}"#,
        r#"-device {"addr":4294967296,"driver":"pc-dimm","id":"dimm1","memdev":"memory1","slot":1}"#,
        r#"-device {"core-id":2,"driver":"host-x86_64-cpu","id":"vcpu2","socket-id":0}"#,
    ] {
        assert!(line.contains(want), "{want}\nnot in\n{line}");
    }
}

mod fuzz {
    use super::*;
    use crate::record::{GuestExit, GuestIdentity, SpecKey};

    /// What the agent and the holder tell each other in files: of another version, or damaged.
    #[test]
    fn no_specification_or_record_panics() {
        let spec = serde_json::to_vec(&spec()).unwrap();
        let exit = br#"{"epoch":3,"cause":{"exited":0},"stderr_tail":"x","at_unix_ms":5}"#.to_vec();
        let identity = br#"{"epoch":1,"uuid":"00112233-4455-4677-8899-aabbccddeeff","uid":1900000000,"qemu":{"pid":4,"start_ticks":5},"holder":{"pid":4,"start_ticks":5},"boot_id":"b","started_at_unix_ms":1,"netns_fds":[null,3]}"#.to_vec();
        weft_fuzz::fuzz(500, weft_fuzz::hostile(vec![spec, exit, identity]), |bytes| {
            if let Ok(spec) = serde_json::from_slice::<GuestSpec>(&bytes) {
                let taps = vec![50; spec.nics.len()];
                let volumes = vec![VolumeFds::default(); spec.volumes.len()];
                let line = command_line(&spec, &GuestFds { taps, volumes, ..fds() });
                // Each option is a word of its own: nothing in a name becomes one.
                proptest::prop_assert!(line.len() > 20);
            }
            drop(serde_json::from_slice::<SpecKey>(&bytes));
            drop(serde_json::from_slice::<GuestExit>(&bytes));
            drop(serde_json::from_slice::<GuestIdentity>(&bytes));
            Ok(())
        });
    }
}
