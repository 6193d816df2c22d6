//! What a guest shows. Its boot sector shows nothing more than the firmware did.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use weft_hypervisor::{GuestError, MemoryFiles, Resume};

use crate::bench::{Bench, PATIENCE, boot_sector, holder, kill, wait_for};

/// Width and height as the header tells them (PNG specification, sections 5.2 and 11.2.2).
fn size_of(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(&png[12..16], b"IHDR");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test]
async fn a_picture_is_taken_again_and_again_and_nothing_of_it_stays() {
    let Some(mut bench) = Bench::new() else { return };
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.display = true;
    bench.guests.launch(&spec, &holder()).await.unwrap();
    let id = &spec.instance_id;
    bench.console_contains(id, "hello").await;
    let qemu = bench.running(id).await.qemu.pid;
    let open = || std::fs::read_dir(format!("/proc/{qemu}/fd")).unwrap().count();
    let first = bench.guests.screenshot(id).await.unwrap();
    assert_eq!(size_of(&first), (720, 400), "the text mode of a VGA");
    assert!(first.ends_with(b"IEND\xae\x42\x60\x82"), "all of it is there");
    let before = open();
    for _ in 0..3 {
        assert_eq!(size_of(&bench.guests.screenshot(id).await.unwrap()), (720, 400));
    }
    assert_eq!(open(), before, "descriptors of pictures");
    // The agent that started it is gone.
    bench.guests = bench.other_agent();
    bench.guests.screenshot(id).await.unwrap();
    bench.finish().await;
}

/// Up to the size of the screen: RFC 6143, section 7.1, with the security type None.
async fn look(bench: &Bench, id: &weft_model::InstanceId) -> (tokio::net::UnixStream, [u8; 4]) {
    let mut viewer = bench.guests.open_display(id).await.unwrap();
    let mut version = [0; 12];
    viewer.read_exact(&mut version).await.unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
    viewer.write_all(&version).await.unwrap();
    let mut types = [0; 2];
    viewer.read_exact(&mut types).await.unwrap();
    assert_eq!(types, [1, 1], "one security type: none");
    viewer.write_all(&[1]).await.unwrap();
    let mut result = [0; 4];
    viewer.read_exact(&mut result).await.unwrap();
    assert_eq!(result, [0; 4]);
    // Not to be shared: QEMU shares all the same.
    viewer.write_all(&[0]).await.unwrap();
    let mut screen = [0; 4];
    viewer.read_exact(&mut screen).await.unwrap();
    (viewer, screen)
}

#[tokio::test]
async fn several_look_at_once_and_qemu_listens_nowhere() {
    let Some(bench) = Bench::new() else { return };
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.display = true;
    bench.guests.launch(&spec, &holder()).await.unwrap();
    let id = &spec.instance_id;
    bench.console_contains(id, "hello").await;
    let text_mode = [720_u16.to_be_bytes(), 400_u16.to_be_bytes()].concat();
    let looking = async {
        let (mut one, screen) = look(&bench, id).await;
        assert_eq!(screen[..], text_mode);
        let (two, _) = look(&bench, id).await;
        // ServerInit goes on: pixel format and the length of a name; the first viewer is still there.
        let mut rest = [0; 20];
        one.read_exact(&mut rest).await.unwrap();
        drop((one, two));
        look(&bench, id).await
    };
    let (mut last, _) = timeout(PATIENCE, looking).await.unwrap();

    let sockets = std::fs::read_dir(bench.guests.dir(id)).unwrap();
    let sockets = sockets.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let mut sockets: Vec<String> = sockets.filter(|name| name.ends_with(".sock")).collect();
    sockets.sort();
    assert_eq!(sockets, ["console.sock", "qmp.sock"]);
    let qemu = bench.running(id).await.qemu.pid;
    let tcp = std::fs::read_to_string(format!("/proc/{qemu}/net/tcp")).unwrap();
    let mut inodes = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{qemu}/fd")).unwrap() {
        let to = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
        let to = to.to_string_lossy();
        inodes.extend(to.strip_prefix("socket:[").map(|it| it.trim_end_matches(']').to_owned()));
    }
    let mine = tcp.lines().filter(|line| line.split_whitespace().any(|it| inodes.contains(it)));
    assert_eq!(mine.count(), 0, "{tcp}");

    // The guest ends: so does the stream.
    bench.guests.purge(id).await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, last.read_to_end(&mut rest)).await.unwrap().ok();
    bench.finish().await;
}

#[tokio::test]
async fn a_guest_that_was_hibernated_shows_what_it_showed() {
    let Some(bench) = Bench::new() else { return };
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.display = true;
    bench.guests.launch(&spec, &holder()).await.unwrap();
    let id = spec.instance_id.clone();
    bench.console_contains(&id, "hello").await;
    let before = bench.guests.screenshot(&id).await.unwrap();
    let (viewer, _) = look(&bench, &id).await;
    let files = MemoryFiles::in_dir(bench.dir.path());
    crate::memory::save(&bench, &id, &files).await.unwrap();
    drop(viewer);
    let machine = files.machine().unwrap().machine;
    spec.epoch += 1;
    spec.resume = Some(Resume { path: files.saved(), machine, guest_agent: false });
    bench.guests.launch(&spec, &holder()).await.unwrap();
    crate::memory::is_read_back(&bench, &id).await;
    bench.guests.resume(&id, &files).await.unwrap();
    // The cursor blinks.
    wait_for("the same picture", async || {
        (bench.guests.screenshot(&id).await.unwrap() == before).then_some(())
    })
    .await;
    bench.finish().await;
}

#[tokio::test]
async fn who_has_no_display_or_does_not_run_shows_nothing() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.launch(boot_sector::HELLO).await;
    let id = &spec.instance_id;
    let none = |error: GuestError| matches!(error, GuestError::NoDisplay { .. });
    assert!(none(bench.guests.screenshot(id).await.unwrap_err()));
    assert!(none(bench.guests.open_display(id).await.unwrap_err()));
    kill(bench.running(id).await.qemu.pid);
    wait_for("the end of qemu", async || {
        let error = bench.guests.screenshot(id).await.unwrap_err();
        matches!(error, GuestError::NotRunning { .. }).then_some(())
    })
    .await;
    bench.finish().await;
}
