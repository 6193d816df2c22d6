use std::process::Command;

use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Disks that are written to and sealed, in one directory.
struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Option<Self> {
        if Command::new("qemu-io").arg("--version").output().is_err() {
            eprintln!("skipped: no qemu-io on this machine");
            return None;
        }
        Some(Self { dir: TempDir::new().unwrap() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn base(&self) -> Backing {
        let base = self.path("base.raw");
        File::create(&base).unwrap().set_len(8 * MIB).unwrap();
        assert!(run("qemu-io", &["-f", "raw", "-c", "write -q -P 1 0 8M", text(&base)]));
        Backing { path: base, format: DiskFormat::Raw }
    }

    /// A layer over `below`, with what these commands of qemu-io write.
    fn layer(
        &self,
        name: &str,
        below: Option<(&Path, &str)>,
        size: &str,
        writes: &[&str],
    ) -> PathBuf {
        let path = self.path(name);
        let mut create = vec!["create", "-q", "-f", "qcow2"];
        if let Some((below, format)) = below {
            create.extend(["-b", text(below), "-F", format]);
        }
        create.extend([text(&path), size]);
        assert!(run("qemu-img", &create));
        for write in writes {
            assert!(run("qemu-io", &["-f", "qcow2", "-c", write, text(&path)]), "{write}");
        }
        File::open(&path).unwrap().set_permissions(Permissions::from_mode(0o444)).unwrap();
        path
    }

    /// Three layers over `below`: each writes over the one below, and the disk has grown twice.
    fn layers(&self, below: Option<(&Path, &str)>) -> Vec<PathBuf> {
        let a = self.layer(
            "a",
            below,
            "16M",
            // A part of a cluster; and one that says to be empty what the base has.
            &["write -q -P 2 1M 1M", "write -q -P 9 10M 3k", "write -q -z 2M 512k"],
        );
        let b = self.layer(
            "b",
            Some((&a, "qcow2")),
            "16M",
            &["write -q -P 3 1500k 100k", "discard -q 3M 128k", "write -q -P 0 5M 64k"],
        );
        let c = self.layer(
            "c",
            Some((&b, "qcow2")),
            "32M",
            &["write -q -P 4 20M 70k", "write -q -P 5 2100k 4k", "write -q -z 1M 64k"],
        );
        vec![a, b, c]
    }

    fn spec(&self, base: Option<Backing>, layers: Vec<PathBuf>) -> MergeSpec {
        let (to, below) = (self.path("merged"), Vec::new());
        MergeSpec { to, base, below, layers, room_bytes: 1 << 30, keep_free_bytes: 0 }
    }
}

fn same(one: &Path, other: &Path) -> bool {
    run("qemu-img", &["compare", "-q", "-f", "qcow2", "-F", "qcow2", text(one), text(other)])
}

fn disks() -> RootDisks {
    RootDisks::new("qemu-img", Limits::default())
}

#[tokio::test]
async fn the_new_layer_shows_what_the_old_ones_showed_over_whatever_lies_below() {
    let Some(scene) = Scene::new() else { return };
    let backing = scene.base();
    let base = backing.path.clone();
    let layers = scene.layers(Some((&base, "raw")));
    let spec = scene.spec(Some(backing), layers.clone());
    // Left by a crash.
    std::fs::write(temporary(&spec.to), "a part").unwrap();
    disks().merge(&spec).await.unwrap();
    assert!(same(&spec.to, &layers[2]));
    let metadata = fs::metadata(&spec.to).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o444);
    assert!(metadata.len() < 4 * MIB, "only what the layers have is copied: {}", metadata.len());
    assert!(!temporary(&spec.to).exists());

    // What is not said is still not said: over another base another content shows.
    assert!(run("qemu-io", &["-f", "raw", "-c", "write -q -P 6 0 8M", text(&base)]));
    assert!(same(&spec.to, &layers[2]), "over another base");

    // Made once.
    let made = metadata.ino();
    disks().merge(&spec).await.unwrap();
    assert_eq!(fs::metadata(&spec.to).unwrap().ino(), made);
}

#[tokio::test]
async fn layers_over_others_and_over_nothing_are_merged_too() {
    let Some(scene) = Scene::new() else { return };
    let layers = scene.layers(None);
    let all = scene.spec(None, layers.clone());
    disks().merge(&all).await.unwrap();
    assert!(same(&all.to, &layers[2]));

    let upper = MergeSpec {
        to: scene.path("upper"),
        below: layers[..1].to_vec(),
        layers: layers[1..].to_vec(),
        ..all.clone()
    };
    disks().merge(&upper).await.unwrap();
    assert!(same(&upper.to, &layers[2]));

    // And what was merged before, with what has come on top.
    let top = scene.layer("top", Some((&all.to, "qcow2")), "32M", &["write -q -P 7 1M 5M"]);
    let again =
        MergeSpec { to: scene.path("again"), layers: vec![all.to.clone(), top.clone()], ..all };
    disks().merge(&again).await.unwrap();
    assert!(same(&again.to, &top));
}

#[tokio::test]
async fn nothing_is_copied_where_there_is_no_room() {
    let Some(scene) = Scene::new() else { return };
    let layers = scene.layers(None);
    let spec = MergeSpec { room_bytes: MIB, ..scene.spec(None, layers) };
    let error = disks().merge(&spec).await.unwrap_err();
    assert!(matches!(error, DiskError::NoRoom { .. }), "{error:?}");
    assert!(!spec.to.exists() && !temporary(&spec.to).exists());
}

#[tokio::test]
async fn a_copy_ends_where_others_fill_the_file_system() {
    let Some(scene) = Scene::new() else { return };
    let layers = scene.layers(None);
    // More than any machine has.
    let spec = MergeSpec { keep_free_bytes: u64::MAX, ..scene.spec(None, layers) };
    let error = disks().merge(&spec).await.unwrap_err();
    assert!(matches!(error, DiskError::FillsUp { .. }) && error.is_out_of_space(), "{error:?}");
    assert!(!spec.to.exists() && !temporary(&spec.to).exists());
    let watched = fills_up(scene.dir.path(), u64::MAX).await;
    assert!(matches!(watched, DiskError::FillsUp { .. }), "{watched:?}");
}

#[tokio::test]
async fn a_layer_that_is_encrypted_or_made_to_do_harm_is_left_alone() {
    let Some(scene) = Scene::new() else { return };
    let layers = scene.layers(None);
    let evil = scene.path("evil");
    let options = format!("data_file={}", text(&scene.path("data")));
    assert!(run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &options, text(&evil), "32M"]));
    let secret = scene.path("secret");
    let create = [
        "create",
        "-q",
        "--object",
        "secret,id=s,data=word",
        "-f",
        "qcow2",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
        text(&secret),
        "32M",
    ];
    assert!(run("qemu-img", &create));
    let small = scene.layer("small", None, "1M", &[]);
    // What is damaged may come back.
    let cut = scene.path("cut");
    fs::copy(&layers[1], &cut).unwrap();
    let file = OpenOptions::new().write(true).open(&cut).unwrap();
    file.set_len(file.metadata().unwrap().len() - 128 * 1024).unwrap();
    let noise = scene.path("noise");
    fs::write(&noise, [7; 4096]).unwrap();
    for bad in [cut, noise] {
        let spec = scene.spec(None, vec![layers[0].clone(), bad.clone()]);
        let error = disks().merge(&spec).await.unwrap_err();
        let told = matches!(&error, DiskError::Damaged { what } if what.contains(text(&bad)));
        assert!(told, "{error:?}");
        assert!(!spec.to.exists() && !temporary(&spec.to).exists());
    }
    for bad in [evil, secret, small] {
        let spec = scene.spec(None, vec![layers[2].clone(), bad]);
        let error = disks().merge(&spec).await.unwrap_err();
        assert!(matches!(error, DiskError::NotAnOverlay { .. }), "{error:?}");
        assert!(!error.is_retryable());
        assert!(!spec.to.exists());
    }
}
