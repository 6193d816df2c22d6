//! A guest's memory outlives its QEMU.

use std::path::Path;

use weft_hypervisor::{GuestError, GuestObservation, GuestSpec, MemoryFiles, Resume, Saving};
use weft_model::InstanceId;

use crate::bench::{Bench, boot_sector, holder, wait_for};

/// Writes "B" once, then sends back each byte plus one: "B" again would be another boot.
pub(crate) fn counts_its_boots() -> Vec<u8> {
    let says = [
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xb0, b'B', // mov al, 'B'
        0xee, // out dx, al
    ];
    [&says[..], boot_sector::ECHO].concat()
}

async fn console(bench: &Bench, id: &InstanceId) -> String {
    String::from_utf8_lossy(&bench.guests.console_tail(id, 4096).unwrap()).into_owned()
}

/// Types until it is heard: `typed` comes back plus one.
pub(crate) async fn answers(bench: &Bench, id: &InstanceId, typed: u8) {
    use tokio::io::AsyncWriteExt as _;
    let mut console_in = bench.guests.console_attach(id).await.unwrap();
    let want = char::from(typed + 1);
    wait_for("an answer", async || {
        console_in.write_all(&[typed]).await.unwrap();
        console(bench, id).await.contains(want).then_some(())
    })
    .await;
}

/// As an agent does: begins, and keeps what was written when that is over.
pub(crate) async fn save(
    bench: &Bench,
    id: &InstanceId,
    files: &MemoryFiles,
) -> Result<(), GuestError> {
    bench.guests.begin_saving(id, files).await?;
    if !files.is_saved() {
        wait_for("the end of the writing", async || {
            let saving = bench.guests.saving(id).await.unwrap();
            matches!(saving, Saving::Written | Saving::Failed(_)).then_some(())
        })
        .await;
    }
    bench.guests.keep_memory(id, files).await
}

async fn read_back(bench: &Bench, spec: &mut GuestSpec, files: &MemoryFiles) {
    let machine = files.machine().unwrap().machine;
    assert!(machine.starts_with("pc-q35-"), "{machine}");
    spec.epoch += 1;
    spec.resume = Some(Resume { path: files.saved(), machine, guest_agent: false });
    bench.guests.launch(spec, &holder()).await.unwrap();
    is_read_back(bench, &spec.instance_id).await;
}

pub(crate) async fn is_read_back(bench: &Bench, id: &InstanceId) {
    wait_for("its memory", async || {
        let seen = bench.guests.observe(id).await.unwrap();
        matches!(seen, GuestObservation::Loaded { .. }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_saved_guest_goes_on_where_it_stood_as_often_as_one_likes() {
    let Some(mut bench) = Bench::new() else { return };
    let mut spec = bench.launch(&counts_its_boots()).await;
    let id = spec.instance_id.clone();
    let files = MemoryFiles::in_dir(bench.dir.path());
    bench.console_contains(&id, "B").await;
    answers(&bench, &id, b'0').await;
    for typed in [b'2', b'4'] {
        save(&bench, &id, &files).await.unwrap();
        assert!(files.is_saved() && !files.is_begun());
        let seen = bench.guests.observe(&id).await.unwrap();
        assert!(matches!(seen, GuestObservation::Exited { .. }), "{seen:?}");
        // An agent that died right after does it again.
        save(&bench, &id, &files).await.unwrap();

        read_back(&bench, &mut spec, &files).await;
        let waits = bench.guests.observe(&id).await.unwrap();
        assert!(matches!(waits, GuestObservation::Loaded { .. }), "{waits:?}");
        assert!(files.is_saved(), "it is kept until the guest goes on");
        // The agent that started it is gone.
        bench.guests = bench.other_agent();
        bench.guests.resume(&id, &files).await.unwrap();
        assert!(!files.is_saved(), "what the disk has left behind is never read again");
        assert_eq!(bench.running(&id).await.epoch, spec.epoch);
        bench.guests.resume(&id, &files).await.unwrap();
        answers(&bench, &id, typed).await;
    }
    let said = console(&bench, &id).await;
    assert_eq!(said.matches('B').count(), 1, "it booted again: {said}");
    bench.finish().await;
}

#[tokio::test]
async fn a_guest_whose_memory_finds_no_room_runs_on_and_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.launch(&counts_its_boots()).await;
    let id = &spec.instance_id;
    let dir = bench.dir.path().join("full");
    std::fs::create_dir(&dir).unwrap();
    let files = MemoryFiles::in_dir(&dir);
    bench.console_contains(id, "B").await;
    // full(4): every write says that there is no space.
    std::os::unix::fs::symlink("/dev/full", dir.join("memory.part")).unwrap();
    let error = save(&bench, id, &files).await.unwrap_err();
    assert!(matches!(error, GuestError::NotSaved { .. }), "{error}");
    assert!(!error.is_retryable(), "{error}");
    assert!(!files.is_begun() && !files.is_saved());
    let qemu = bench.running(id).await.qemu.pid;
    let open = std::fs::read_dir(format!("/proc/{qemu}/fd")).unwrap();
    let mut open = open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    assert!(open.all(|file| file != Path::new("/dev/full")), "QEMU keeps what it cannot use");
    answers(&bench, id, b'0').await;
    // With room it works, on the same QEMU.
    save(&bench, id, &files).await.unwrap();
    assert!(files.is_saved());
    bench.finish().await;
}
