use std::fs::File;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::disks::Limits;

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
    let bench = Bench {
        dir: TempDir::new().unwrap(),
        disks: RootDisks::new("qemu-img", Limits::default()),
    };
    fs::create_dir(bench.dir.path().join("i-1")).unwrap();
    fs::write(bench.spec("layer-a").top, "what the guest wrote").unwrap();
    Some(bench)
}

impl Bench {
    fn spec(&self, layer: &str) -> SealSpec {
        let dir = self.dir.path();
        SealSpec {
            top: dir.join("i-1/root.qcow2"),
            layer: dir.join("layers").join(format!("{layer}.qcow2")),
            size_bytes: 8 * MIB,
            uid: nix::unistd::geteuid().as_raw(),
        }
    }

    async fn seal(&self, spec: &SealSpec) -> Seal {
        let seal = self.disks.prepare_seal(spec, None).await.unwrap();
        self.disks.finish_seal(spec).await.unwrap();
        seal
    }

    fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        for dir in ["i-1", "layers"] {
            let entries = fs::read_dir(self.dir.path().join(dir)).into_iter().flatten();
            names.extend(entries.map(|e| e.unwrap().file_name().into_string().unwrap()));
        }
        names.sort();
        names
    }
}

#[tokio::test]
async fn what_a_disk_has_becomes_a_layer_and_the_disk_goes_on_above_it() {
    let Some(bench) = bench() else { return };
    let spec = bench.spec("layer-a");
    assert_eq!(bench.seal(&spec).await, Seal::Prepared);
    assert_eq!(fs::read(&spec.layer).unwrap(), b"what the guest wrote");
    assert_eq!(fs::metadata(&spec.layer).unwrap().mode() & 0o777, 0o444);
    let overlay = bench.disks.info(&spec.top).await.unwrap().unwrap();
    assert_eq!((overlay.virtual_size_bytes, &overlay.backing), (8 * MIB, &spec.layer));
    assert_eq!(bench.files(), ["layer-a.qcow2", "root.qcow2"], "nothing is left over");
    // Once more is nothing more.
    let before = fs::read(&spec.top).unwrap();
    assert_eq!(bench.seal(&spec).await, Seal::Done);
    assert_eq!(fs::read(&spec.top).unwrap(), before);
}

#[tokio::test]
async fn a_seal_that_was_interrupted_anywhere_is_carried_to_its_end() {
    for cut in ["linked", "next made", "next written to", "renamed"] {
        let Some(bench) = bench() else { return };
        let spec = bench.spec("layer-a");
        match cut {
            "linked" => {
                fs::create_dir(spec.layer.parent().unwrap()).unwrap();
                fs::hard_link(&spec.top, &spec.layer).unwrap();
                // Half of the next file, as the process died with it.
                fs::write(temporary(&spec.next()), "ha").unwrap();
            }
            "renamed" => {
                bench.disks.prepare_seal(&spec, None).await.unwrap();
                fs::rename(spec.next(), &spec.top).unwrap();
            }
            _ => {
                bench.disks.prepare_seal(&spec, None).await.unwrap();
            }
        }
        if cut == "next written to" {
            // A guest went over to it and wrote, then everything died.
            fs::write(spec.next(), "written after the snapshot").unwrap();
        }
        let made = bench.disks.is_next_made(&spec).await.unwrap();
        assert_eq!(made, cut != "linked", "{cut}");
        bench.seal(&spec).await;
        assert_eq!(fs::read(&spec.layer).unwrap(), b"what the guest wrote", "{cut}");
        if cut == "next written to" {
            assert_eq!(fs::read(&spec.top).unwrap(), b"written after the snapshot");
        }
        assert_eq!(bench.files(), ["layer-a.qcow2", "root.qcow2"], "{cut}");
        assert_eq!(fs::metadata(&spec.layer).unwrap().nlink(), 1, "{cut}");
    }
}

#[tokio::test]
async fn what_could_not_be_sealed_is_as_it_was() {
    let Some(bench) = bench() else { return };
    let spec = bench.spec("layer-a");
    let limits = Limits { file_size_bytes: 4096, ..Limits::default() };
    let cramped = RootDisks::new("qemu-img", limits);
    cramped.prepare_seal(&spec, None).await.unwrap_err();
    assert_eq!(bench.files(), ["layer-a.qcow2", "root.qcow2"]);
    cramped.undo_seal(&spec).await.unwrap();
    assert_eq!(bench.files(), ["root.qcow2"]);
    assert_eq!(fs::read(&spec.top).unwrap(), b"what the guest wrote");
    // An undo that was cut short is no obstacle to the next attempt, nor is one too many.
    bench.disks.undo_seal(&spec).await.unwrap();
    bench.seal(&spec).await;
    bench.disks.undo_seal(&spec).await.unwrap();
    assert_eq!(fs::read(&spec.layer).unwrap(), b"what the guest wrote", "the layer stays");
}

#[tokio::test]
async fn a_disk_that_is_not_there_cannot_be_sealed() {
    let Some(bench) = bench() else { return };
    let spec = bench.spec("layer-a");
    fs::remove_file(&spec.top).unwrap();
    let error = bench.disks.prepare_seal(&spec, None).await.unwrap_err();
    assert!(matches!(error, DiskError::Gone { .. }), "{error:?}");
}

#[tokio::test]
async fn a_full_file_system_is_told_from_other_failures() {
    let Some(bench) = bench() else { return };
    let program = bench.dir.path().join("qemu-img");
    let script = "#!/bin/sh\necho 'qemu-img: out: No space left on device' >&2\nexit 1\n";
    fs::write(&program, script).unwrap();
    File::open(&program).unwrap().set_permissions(PermissionsExt::from_mode(0o755)).unwrap();
    let limits = Limits { deadline: Duration::from_secs(10), ..Limits::default() };
    let full = RootDisks::new(&program, limits);
    let error = full.prepare_seal(&bench.spec("layer-a"), None).await.unwrap_err();
    assert!(error.is_out_of_space(), "{error}");
}
