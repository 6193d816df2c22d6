//! Making one piece of a disk that lies over others.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use weft_model::DiskFormat;

use super::confined::{ConfinedUid, lend};
use super::{Backing, DiskError, Limits, RootDisks, header, qemu_img};
use crate::blobs::read_head;
use crate::files::{FileError, blocking, remove};

/// A disk to be made one piece of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlattenSpec {
    /// The file to be made: qcow2, over nothing. Whatever is there is replaced.
    pub to: PathBuf,
    /// The blob below everything, where there is one.
    pub base: Option<Backing>,
    /// The layers above that, bottom to top; all qcow2.
    pub layers: Vec<PathBuf>,
    /// What a guest sees, in bytes.
    pub size_bytes: u64,
    /// What the file may take at most, in bytes.
    pub room_bytes: u64,
}

/// So many times the address space of other calls: `convert` has up to 64 threads (QEMU
/// `util/thread-pool.c`), each with 8 MiB of stack and perhaps an arena of glibc's with 64 MiB,
/// and tables of each layer. It takes next to none of it as memory.
pub(super) const THREADS_TAKE: u64 = 8;

/// A disk with what its clusters cost besides their content (QEMU `docs/interop/qcow2.txt`), or more.
pub(super) fn with_tables(size_bytes: u64) -> u64 {
    size_bytes.saturating_add(size_bytes / 64).saturating_add(16 << 20)
}

impl RootDisks {
    /// Copies what a guest would see of the disk into one file. Clusters that hold nothing take no
    /// space; nothing is compressed, because every instance of the image would pay for it at each
    /// first read.
    ///
    /// # Errors
    /// [`DiskError::NoRoom`], [`DiskError::NotAnOverlay`] where a layer was made to do harm, [`DiskError::Damaged`], and
    /// those of `qemu-img`. The file is removed then.
    pub async fn flatten(&self, spec: &FlattenSpec) -> Result<(), DiskError> {
        for layer in &spec.layers {
            self.layer_bytes(layer).await?;
        }
        let copied = self.copy(spec).await;
        if copied.is_err() {
            let to = spec.to.clone();
            let _ = blocking(move || remove(&to)).await; // The first error is the one to tell.
        }
        copied
    }

    async fn copy(&self, spec: &FlattenSpec) -> Result<(), DiskError> {
        let opened = spec.clone();
        let user = ConfinedUid::take();
        let uid = user.number();
        let (source, target, fds) = blocking(move || open(&opened, uid)).await?;
        weft_crash_points::point("disk.flatten.opened");
        let wanted = with_tables(spec.size_bytes);
        let limits = Limits {
            file_size_bytes: wanted.min(spec.room_bytes),
            // At 64 MiB and 16 MiB a second, far below what any machine does.
            cpu_seconds: 60 + (spec.size_bytes >> 26),
            deadline: Duration::from_secs(120 + (spec.size_bytes >> 24)),
            address_space_bytes: self.limits.address_space_bytes.saturating_mul(THREADS_TAKE),
            in_background: false,
        };
        let arguments: [&OsStr; 6] =
            ["convert".as_ref(), "-q".as_ref(), "-O".as_ref(), "qcow2".as_ref(), &source, &target];
        let ran = qemu_img::run_confined_over(&self.qemu_img, &user, &arguments, fds, limits).await;
        weft_crash_points::point("disk.flatten.copied");
        ran.map_err(|error| error.or_no_room(spec.room_bytes, wanted))
    }

    /// What a guest sees of a layer, in bytes, if it may be read with what its header says.
    pub(super) async fn layer_bytes(&self, layer: &Path) -> Result<u64, DiskError> {
        let path = layer.to_owned();
        blocking(move || match read_head(&path) {
            Ok(head) => header::layer(&head).map_err(|what| match what {
                header::OTHER_FILE | header::ENCRYPTED => DiskError::NotAnOverlay { path, what },
                what => DiskError::Damaged { what: format!("{}: {what}", path.display()) },
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(DiskError::Gone { path }),
            Err(source) => Err(FileError::new("read", &path)(source).into()),
        })
        .await
    }
}

impl DiskError {
    /// What it means that `qemu-img` failed which could write `room_bytes` and perhaps wanted to write
    /// `wanted`.
    pub(super) fn or_no_room(self, room_bytes: u64, wanted: u64) -> Self {
        match self {
            error if error.is_out_of_space() => Self::NoRoom { room_bytes },
            // setrlimit(2): who writes beyond RLIMIT_FSIZE is sent SIGXFSZ, or told EFBIG where it is
            // ignored, as it is by whom we were started by perhaps.
            Self::QemuImg { status, message, .. }
                if room_bytes < wanted
                    && (status.contains("SIGXFSZ") || message.contains("File too large")) =>
            {
                Self::NoRoom { room_bytes }
            }
            other => other,
        }
    }
}

/// Source and target as `qemu-img` is to call them, and what it inherits for them: the directories
/// are closed to the user `uid` that it runs as.
fn open(spec: &FlattenSpec, uid: u32) -> Result<(OsString, OsString, Vec<OwnedFd>), FileError> {
    let mut fds = Vec::new();
    let node = over(spec.base.as_ref(), &spec.layers, &mut fds)?;
    remove(&spec.to)?; // Left by a crash.
    let target = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&spec.to)
        .map_err(FileError::new("create", &spec.to))?;
    lend(&target, uid).map_err(FileError::new("set the owner of", &spec.to))?;
    let name = format!("/dev/fd/{}", target.as_raw_fd());
    fds.push(OwnedFd::from(target));
    Ok((format!("json:{node}").into(), name.into(), fds))
}

/// What is seen over `base` and `layers`, for reading; nothing where there are none.
pub(super) fn over(
    base: Option<&Backing>,
    layers: &[PathBuf],
    fds: &mut Vec<OwnedFd>,
) -> Result<Value, FileError> {
    let mut node = Value::Null;
    let base = base.iter().map(|base| (&base.path, base.format));
    let layers = layers.iter().map(|path| (path, DiskFormat::Qcow2));
    for (path, format) in base.chain(layers) {
        let file = inherit(File::open(path).map_err(FileError::new("open", path))?, fds);
        let below = std::mem::replace(&mut node, Value::Null);
        node = match format {
            DiskFormat::Raw => json!({ "driver": "raw", "file": file }),
            DiskFormat::Qcow2 => json!({ "driver": "qcow2", "file": file, "backing": below }),
        };
    }
    Ok(node)
}

/// A file as `qemu-img` is to open it. Not locked: guests may have it, none writes to it.
pub(super) fn inherit(file: File, fds: &mut Vec<OwnedFd>) -> Value {
    let name = format!("/dev/fd/{}", file.as_raw_fd());
    fds.push(OwnedFd::from(file));
    json!({ "driver": "file", "filename": name, "locking": "off" })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn run(program: &str, arguments: &[&str]) -> bool {
        Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
    }

    /// A raw base and two layers, each with one MiB of its own.
    fn chain(dir: &TempDir) -> Option<FlattenSpec> {
        if Command::new("qemu-io").arg("--version").output().is_err() {
            eprintln!("SKIPPED: no qemu-io on this machine");
            return None;
        }
        let path = |name: &str| dir.path().join(name).display().to_string();
        let base = path("base.raw");
        File::create(&base).unwrap().set_len(8 * MIB).unwrap();
        assert!(run("qemu-io", &["-f", "raw", "-c", "write -q -P 1 0 1M", &base]));
        for (layer, below, format, at) in
            [("a", "base.raw", "raw", "1M"), ("b", "a", "qcow2", "2M")]
        {
            let (file, below) = (path(layer), path(below));
            let create = ["create", "-q", "-f", "qcow2", "-b", &below, "-F", format, &file, "16M"];
            assert!(run("qemu-img", &create));
            let write = format!("write -q -P 7 {at} 1M");
            assert!(run("qemu-io", &["-f", "qcow2", "-c", &write, &file]));
            File::open(&file)
                .unwrap()
                .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o444))
                .unwrap();
        }
        let layers = vec![dir.path().join("a"), dir.path().join("b")];
        Some(FlattenSpec {
            to: dir.path().join("out"),
            base: Some(Backing { path: base.into(), format: DiskFormat::Raw }),
            layers,
            size_bytes: 16 * MIB,
            room_bytes: 1 << 30,
        })
    }

    fn disks() -> RootDisks {
        RootDisks::new("qemu-img", Limits::default())
    }

    #[tokio::test]
    async fn one_piece_has_what_a_guest_saw_and_no_more() {
        let dir = TempDir::new().unwrap();
        let Some(spec) = chain(&dir) else { return };
        std::fs::write(&spec.to, "left by a crash").unwrap();
        disks().flatten(&spec).await.unwrap();
        let out = spec.to.display().to_string();
        let top = spec.layers[1].display().to_string();
        assert!(run("qemu-img", &["compare", "-q", "-f", "qcow2", "-F", "qcow2", &out, &top]));
        let info = Command::new("qemu-img").args(["info", &out]).output().unwrap().stdout;
        let info = String::from_utf8(info).unwrap();
        assert!(!info.contains("backing file") && info.contains("16 MiB"), "{info}");
        assert!(
            std::fs::metadata(&spec.to).unwrap().len() < 5 * MIB,
            "what is empty takes nothing"
        );
    }

    #[tokio::test]
    async fn what_does_not_fit_is_told_and_gives_its_space_back() {
        let dir = TempDir::new().unwrap();
        let Some(spec) = chain(&dir) else { return };
        let spec = FlattenSpec { room_bytes: MIB, ..spec };
        let error = disks().flatten(&spec).await.unwrap_err();
        assert!(matches!(error, DiskError::NoRoom { .. }), "{error:?}");
        assert!(!spec.to.exists());
    }

    #[tokio::test]
    async fn a_layer_that_names_another_file_as_its_data_is_refused() {
        let dir = TempDir::new().unwrap();
        let Some(spec) = chain(&dir) else { return };
        let evil = dir.path().join("evil").display().to_string();
        let data = dir.path().join("data").display().to_string();
        let options = format!("data_file={data}");
        assert!(run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &options, &evil, "16M"]));
        let spec = FlattenSpec { layers: vec![evil.into()], ..spec };
        let error = disks().flatten(&spec).await.unwrap_err();
        assert!(matches!(error, DiskError::NotAnOverlay { .. }), "{error:?}");
        assert!(!spec.to.exists());
    }
}
