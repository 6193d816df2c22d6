use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;

struct Bench {
    dir: TempDir,
    disks: RootDisks,
}

/// `None`, said aloud, on a machine without `qemu-img`.
fn bench() -> Option<Bench> {
    if Command::new("qemu-img").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no qemu-img on this machine");
        return None;
    }
    let dir = TempDir::new().unwrap();
    Some(Bench { dir, disks: RootDisks::new("qemu-img", Limits::default()) })
}

impl Bench {
    fn raw_image(&self, len: u64) -> PathBuf {
        let path = self.dir.path().join("image.raw");
        File::create(&path).unwrap().set_len(len).unwrap();
        path
    }

    fn spec(&self, backing: PathBuf, backing_format: DiskFormat, size_bytes: u64) -> OverlaySpec {
        let path = self.dir.path().join("i-1").join("root.qcow2");
        let uid = nix::unistd::geteuid().as_raw();
        OverlaySpec { path, backing, backing_format, size_bytes, uid }
    }
}

fn qemu_img(arguments: &[&str], path: &Path) -> String {
    let output = Command::new("qemu-img").args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn an_overlay_is_what_qemu_reads_and_what_was_asked_for() {
    let Some(bench) = bench() else { return };
    #[rustfmt::skip]
    let cases = [
        // image,   asked,       got
        (10 * MIB,  0,           10 * MIB),
        (10 * MIB,  10 * MIB,    10 * MIB),
        (10 * MIB,  8192 * MIB,  8192 * MIB),
        (1000,      0,           1024),
        (1000,      64 << 40,    64 << 40),
    ];
    for (image, asked, got) in cases {
        let backing = bench.raw_image(image);
        let spec = bench.spec(backing.clone(), DiskFormat::Raw, asked);
        let info = bench.disks.create_overlay(&spec).await.unwrap();
        let want = OverlayInfo {
            virtual_size_bytes: got,
            backing: backing.clone(),
            backing_format: DiskFormat::Raw,
        };
        assert_eq!(info, want, "{image} asked {asked}");
        assert_eq!(bench.disks.info(&spec.path).await.unwrap(), Some(want));
        let shown = qemu_img(&["info", "--output=json"], &spec.path);
        for line in [format!("\"virtual-size\": {got}"), backing.display().to_string()] {
            assert!(shown.contains(&line), "{line} in {shown}");
        }
        let metadata = fs::metadata(&spec.path).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o600, spec.uid));
        assert_eq!(fs::read_dir(spec.path.parent().unwrap()).unwrap().count(), 1);
        assert!(bench.disks.remove(&spec.path).await.unwrap());
        assert!(!bench.disks.remove(&spec.path).await.unwrap(), "absence is no error");
        assert_eq!(bench.disks.info(&spec.path).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_file_belongs_to_the_guest() {
    let Some(bench) = bench() else { return };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root gives files away");
        return;
    }
    let uid = 1_900_000_007;
    let spec = OverlaySpec { uid, ..bench.spec(bench.raw_image(MIB), DiskFormat::Raw, 0) };
    bench.disks.create_overlay(&spec).await.unwrap();
    let metadata = fs::metadata(&spec.path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (uid, uid));
}

#[tokio::test]
async fn qcow2_images_are_backing_files_too() {
    let Some(bench) = bench() else { return };
    let backing = bench.dir.path().join("image.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", backing.to_str().unwrap()], Path::new("3M"));
    let spec = bench.spec(backing.clone(), DiskFormat::Qcow2, 0);
    let info = bench.disks.create_overlay(&spec).await.unwrap();
    assert_eq!((info.virtual_size_bytes, info.backing_format), (3 * MIB, DiskFormat::Qcow2));
    qemu_img(&["check", "-q"], &spec.path);

    let chained = OverlaySpec { path: bench.dir.path().join("second"), backing: spec.path, ..spec };
    let error = bench.disks.create_overlay(&chained).await.unwrap_err();
    assert!(matches!(error, DiskError::NotAnImage { .. }), "an overlay is no image: {error}");
    let lied = bench.spec(backing, DiskFormat::Raw, 0);
    let error = bench.disks.create_overlay(&lied).await.unwrap_err();
    assert!(matches!(error, DiskError::WrongFormat { .. }), "{error}");
}

#[tokio::test]
async fn making_it_again_changes_nothing_and_another_disk_is_not_overwritten() {
    let Some(bench) = bench() else { return };
    let spec = bench.spec(bench.raw_image(MIB), DiskFormat::Raw, 4 * MIB);
    let info = bench.disks.create_overlay(&spec).await.unwrap();
    let written = "write -q -P 0x5a 0 4096";
    let mut guest = Command::new("qemu-io");
    let guest_wrote = guest.args(["-f", "qcow2", "-c", written]).arg(&spec.path).status().is_ok();
    let before = fs::read(&spec.path).unwrap();
    assert_eq!(bench.disks.create_overlay(&spec).await.unwrap(), info);
    assert_eq!(fs::read(&spec.path).unwrap(), before, "guest wrote: {guest_wrote}");

    let larger = OverlaySpec { size_bytes: 8 * MIB, ..spec.clone() };
    let error = bench.disks.create_overlay(&larger).await.unwrap_err();
    assert!(matches!(error, DiskError::Differs { .. }), "{error}");
    let other = bench.dir.path().join("other.raw");
    fs::write(&other, [1; 512]).unwrap();
    let rebased = OverlaySpec { backing: other, ..spec.clone() };
    let error = bench.disks.create_overlay(&rebased).await.unwrap_err();
    assert!(matches!(error, DiskError::Differs { .. }), "{error}");
    fs::write(&spec.path, "not a disk").unwrap();
    let error = bench.disks.create_overlay(&spec).await.unwrap_err();
    assert!(matches!(error, DiskError::NotAnOverlay { .. }), "{error}");
}

#[tokio::test]
async fn impossible_wishes_are_refused_before_anything_is_made() {
    let Some(bench) = bench() else { return };
    let image = bench.raw_image(10 * MIB);
    let small = bench.spec(image.clone(), DiskFormat::Raw, 10 * MIB - 512);
    let error = bench.disks.create_overlay(&small).await.unwrap_err();
    assert!(error.to_string().contains("smaller than its image of 10485760"), "{error}");
    let relative = bench.spec("image.raw".into(), DiskFormat::Raw, 0);
    let error = bench.disks.create_overlay(&relative).await.unwrap_err();
    assert!(matches!(error, DiskError::RelativeBacking { .. }), "{error}");
    let absent = bench.spec(bench.dir.path().join("absent"), DiskFormat::Raw, 0);
    let error = bench.disks.create_overlay(&absent).await.unwrap_err();
    assert!(matches!(error, DiskError::File(_)), "{error}");
    assert!(!bench.dir.path().join("i-1").exists());
}

#[tokio::test]
async fn leftovers_of_a_crash_are_no_obstacle() {
    let Some(bench) = bench() else { return };
    let spec = bench.spec(bench.raw_image(MIB), DiskFormat::Raw, 0);
    fs::create_dir_all(spec.path.parent().unwrap()).unwrap();
    fs::write(temporary(&spec.path), "half a disk").unwrap();
    assert_eq!(bench.disks.info(&spec.path).await.unwrap(), None, "it does not count");
    bench.disks.create_overlay(&spec).await.unwrap();
    fs::write(temporary(&spec.path), "half a disk").unwrap();
    bench.disks.remove(&spec.path).await.unwrap();
    assert_eq!(fs::read_dir(spec.path.parent().unwrap()).unwrap().count(), 0);
}

#[tokio::test]
async fn qemu_img_is_held_to_its_limits() {
    let Some(bench) = bench() else { return };
    let spec = bench.spec(bench.raw_image(MIB), DiskFormat::Raw, 0);
    let limited = |limits| RootDisks::new("qemu-img", limits);
    let nothing_is_left = || fs::read_dir(spec.path.parent().unwrap()).unwrap().count() == 0;

    let files = limited(Limits { file_size_bytes: 4096, ..Limits::default() });
    let error = files.create_overlay(&spec).await.unwrap_err();
    assert!(matches!(error, DiskError::QemuImg { .. }) && error.is_retryable(), "{error}");
    assert!(nothing_is_left());

    let memory = limited(Limits { address_space_bytes: 1 << 20, ..Limits::default() });
    let error = memory.create_overlay(&spec).await.unwrap_err();
    assert!(matches!(error, DiskError::QemuImg { .. } | DiskError::NoQemuImg { .. }), "{error}");
    assert!(nothing_is_left());
}

#[tokio::test]
async fn a_program_that_hangs_is_ended() {
    let Some(bench) = bench() else { return };
    let (pid, program) = (bench.dir.path().join("pid"), bench.dir.path().join("slow"));
    let script = format!("#!/bin/sh\necho $$ > {}\nexec sleep 1000\n", pid.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let spec = bench.spec(bench.raw_image(MIB), DiskFormat::Raw, 0);
    let limits = Limits { deadline: Duration::from_secs(1), ..Limits::default() };
    let error = RootDisks::new(program, limits).create_overlay(&spec).await.unwrap_err();
    assert!(matches!(error, DiskError::QemuImgTooSlow { .. }), "{error}");
    let pid: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    // The kernel reaps it through tokio a moment later.
    while fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let Some(bench) = bench() else { return };
    let spec = bench.spec(bench.raw_image(MIB), DiskFormat::Raw, 0);
    let disks = RootDisks::new("/nowhere/qemu-img", Limits::default());
    let error = disks.create_overlay(&spec).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/qemu-img"), "{error}");
}

#[test]
fn damaged_overlay_headers_are_told_and_never_panic() {
    let mut head = vec![0; 512];
    head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    head[15] = 0xf0; // backing_file_offset
    head[19] = 5; // backing_file_size
    head[30] = 0x10; // size
    head[103] = 104; // header_length
    head[104..112].copy_from_slice(b"\xe2\x79\x2a\xca\0\0\0\x03");
    head[112..115].copy_from_slice(b"raw");
    head[0xf0..0xf5].copy_from_slice(b"/blob");
    let good = header::parse(&head).unwrap();
    assert_eq!((good.virtual_size_bytes, good.backing.as_path()), (4096, Path::new("/blob")));
    for len in 0..0xf5 {
        assert!(header::parse(&head[..len]).is_err(), "{len} bytes");
    }
    for at in 0..head.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = head.clone();
            damaged[at] = value;
            let _ = header::parse(&damaged);
        }
    }
    head[79] = 4; // an external data file
    assert_eq!(header::parse(&head), Err("it keeps its data in another file"));
}

/// A qcow2 image with data in it, complete, that others may read.
fn qcow2_image(bench: &Bench) -> (PathBuf, Vec<u8>) {
    let raw = bench.dir.path().join("data.raw");
    fs::write(&raw, (0..4 * MIB).map(|n| (n % 253) as u8 + 1).collect::<Vec<_>>()).unwrap();
    let path = bench.dir.path().join("data.qcow2");
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", raw.to_str().unwrap()], &path);
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[tokio::test]
async fn a_qcow2_image_whose_tables_contradict_themselves_is_refused() {
    let Some(bench) = bench() else { return };
    let (path, good) = qcow2_image(&bench);
    bench.disks.check_qcow2(&path).await.unwrap();
    // Source: QEMU `docs/interop/qcow2.txt`: offsets are bits 9 to 55, bit 63 is "refcount is one".
    let place = |entry: u64| usize::try_from(entry & 0x00ff_ffff_ffff_fe00).unwrap();
    let l1 = usize::try_from(number(&good, 40)).unwrap();
    let refcounts = usize::try_from(number(&good, 48)).unwrap();
    let l2 = place(number(&good, l1));
    let copied = |at: usize| at as u64 | 1 << 63;
    #[rustfmt::skip]
    let cases = [
        ("an L2 table that is the L1 table",    l1,        copied(l1)),
        ("an L2 table off a cluster's start",   l1,        copied(l2 + 512)),
        ("an L2 table behind the end",          l1,        copied(1 << 50)),
        ("data that are their own L2 table",    l2,        copied(l2)),
        ("data that are the L1 table",          l2,        copied(l1)),
        ("two guests' clusters in one place",   l2,        number(&good, l2 + 8)),
        ("refcounts that are their own table",  refcounts, refcounts as u64),
        ("refcounts that are the header",       refcounts, 0),
        ("refcounts behind the end",            refcounts, 1 << 50),
    ];
    for (name, at, value) in cases {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
        fs::write(&path, bytes).unwrap();
        match bench.disks.check_qcow2(&path).await {
            Err(DiskError::Damaged { what }) => assert!(!what.is_empty(), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_qcow2_image_cannot_name_its_header_as_data() {
    let Some(bench) = bench() else { return };
    let (path, mut bytes) = qcow2_image(&bench);
    let l1 = usize::try_from(number(&bytes, 40)).unwrap();
    let l2 = usize::try_from(number(&bytes, l1) & 0x00ff_ffff_ffff_fe00).unwrap();
    // Offset 0 means "nothing here" (QEMU `docs/interop/qcow2.txt`, Standard Cluster Descriptor), so
    // such an entry is no contradiction: there is nothing to refuse, and the guest reads zeroes.
    bytes[l2..l2 + 8].copy_from_slice(&(1_u64 << 63).to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    bench.disks.check_qcow2(&path).await.unwrap();
    let raw = bench.dir.path().join("seen.raw");
    qemu_img(&["convert", "-f", "qcow2", "-O", "raw", path.to_str().unwrap()], &raw);
    let cluster = 1 << u32::from_be_bytes(bytes[20..24].try_into().unwrap());
    let seen = fs::read(&raw).unwrap();
    assert!(seen[..cluster].iter().all(|byte| *byte == 0), "the header was read as data");
    assert_ne!(seen[cluster], 0);
}

#[tokio::test]
async fn a_qcow2_image_that_takes_too_much_to_check_is_refused() {
    let Some(mut bench) = bench() else { return };
    let (path, _) = qcow2_image(&bench);
    bench.disks.limits.deadline = Duration::ZERO;
    match bench.disks.check_qcow2(&path).await {
        Err(DiskError::Damaged { what }) => assert!(what.contains("takes more than"), "{what}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_disk_of_a_volume_is_empty_or_shows_what_is_below_it_and_stays_as_it_is() {
    let Some(bench) = bench() else { return };
    let path = bench.dir.path().join("vol-1").join("disk.qcow2");
    let disk = |below| DiskSpec { path: path.clone(), size_bytes: 64 * MIB, below };
    assert_eq!(bench.disks.disk_bytes(&path).await.unwrap(), None);
    bench.disks.create_disk(&disk(None), None).await.unwrap();
    assert_eq!(bench.disks.disk_bytes(&path).await.unwrap(), Some(64 * MIB));
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert!(metadata.len() < MIB, "it takes room only for what is written");

    // Once more, after a crash: what is there is the disk, also if it has grown since.
    let before = metadata.ino();
    bench.disks.create_disk(&DiskSpec { size_bytes: MIB, ..disk(None) }, None).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);

    fs::remove_file(&path).unwrap();
    let (image, format) = (bench.raw_image(MIB), DiskFormat::Raw);
    bench
        .disks
        .create_disk(&disk(Some(Backing { path: image.clone(), format })), None)
        .await
        .unwrap();
    let shown = qemu_img(&["info", "--output=json"], &path);
    assert!(shown.contains(image.to_str().unwrap()), "{shown}");

    bench.disks.grow_disk(&path, 1 << 40, None).await.unwrap();
    assert_eq!(bench.disks.disk_bytes(&path).await.unwrap(), Some(1 << 40));
    bench.disks.grow_disk(&path, MIB, None).await.unwrap();
    assert_eq!(bench.disks.disk_bytes(&path).await.unwrap(), Some(1 << 40), "it never shrinks");
    let shown = qemu_img(&["info", "--output=json"], &path);
    assert!(shown.contains(image.to_str().unwrap()), "what is below it stays: {shown}");
    assert_eq!(fs::metadata(&path).unwrap().uid(), metadata.uid(), "whose it was");

    // Nothing else is opened, whatever a guest has written there.
    let mut spoiled = fs::read(&path).unwrap();
    spoiled[79] |= 4;
    fs::write(&path, spoiled).unwrap();
    let error = bench.disks.grow_disk(&path, 2 << 40, None).await.unwrap_err();
    assert!(error.to_string().contains("another file"), "{error}");

    fs::write(&path, "not a disk").unwrap();
    let error = bench.disks.create_disk(&disk(None), None).await.unwrap_err();
    assert!(matches!(error, DiskError::NotADisk { .. }), "{error}");
}

#[tokio::test]
async fn who_reads_a_strangers_file_is_a_user_of_its_own_and_another_each_time() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give up rights");
        return;
    }
    let shell = Path::new("/bin/sh");
    let say: [&OsStr; 2] = ["-c".as_ref(), "echo $(id -u) $(id -g) $(id -G) >&2; exit 1".as_ref()];
    let mut uids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let input = File::open("/dev/null").unwrap();
        let ran = qemu_img::run_confined(shell, &say, input, Limits::default()).await;
        let Err(DiskError::QemuImg { message, .. }) = ran else { panic!("{ran:?}") };
        let ids: Vec<u32> = message.split(' ').map(|id| id.parse().unwrap()).collect();
        assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{message}");
        assert!((1_899_934_464..1_900_000_000).contains(&ids[0]), "{message}");
        uids.insert(ids[0]);
    }
    assert_eq!(uids.len(), 3);
}
