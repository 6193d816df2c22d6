//! Disks of volumes: qcow2 over a sealed layer, over an image's blob, or over nothing.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use weft_model::{DataSecret, DiskFormat};

use super::confined::{ConfinedUid, lend};
use super::encryption::{KEY, create_options};
use super::{DiskError, Limits, RootDisks, header, qemu_img};
use crate::blobs::read_head;
use crate::files::{FileError, appear, blocking, temporary};

/// A file that lies below a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// An absolute path.
    pub path: PathBuf,
    /// How that is laid out. Said, never guessed: a guest could write a header into a raw disk.
    pub format: DiskFormat,
}

/// A disk to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    /// Where.
    pub path: PathBuf,
    /// What a guest sees, in bytes.
    pub size_bytes: u64,
    /// What it shows where nothing was written; `None` shows zeros.
    pub below: Option<Backing>,
}

/// A disk's file that belongs to the user of [`qemu_img::run_confined_on`] for a while. Where the agent
/// dies meanwhile it stays so, which harms nobody: guests get it open.
struct Lent {
    file: File,
    owner: (u32, u32),
}

impl Lent {
    /// Opens it twice, for the user `uid`, and says how long it is: one is kept, one is given away.
    fn open(path: &Path, uid: u32) -> io::Result<(Self, OwnedFd, u64)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let metadata = file.metadata()?;
        lend(&file, uid)?;
        let given = file.try_clone()?.into();
        let owner = (metadata.uid(), metadata.gid());
        Ok((Self { file, owner }, given, metadata.len()))
    }

    fn take_back(self) -> io::Result<()> {
        let (uid, gid) = self.owner;
        match nix::unistd::geteuid().is_root() {
            true => fchown(&self.file, Some(uid), Some(gid)),
            false => Ok(()),
        }
    }
}

impl RootDisks {
    /// Makes a disk that appears at its path as a whole; its file grows with what is written. Where
    /// there is one already it is left as it is. `secret` encrypts it.
    ///
    /// # Errors
    /// [`DiskError::NotADisk`] where something else is at the path, and those of `qemu-img`.
    pub async fn create_disk(
        &self,
        spec: &DiskSpec,
        secret: Option<&DataSecret>,
    ) -> Result<(), DiskError> {
        if self.disk_bytes(&spec.path).await?.is_some() {
            return Ok(());
        }
        let make = async {
            let made = self.make_disk(&temporary(&spec.path), spec, secret).await;
            weft_crash_points::point("disk.make.disk_made");
            made
        };
        // Whoever opens it for a guest hands it over open: it stays the agent's own.
        appear(&spec.path, nix::unistd::geteuid().as_raw(), make).await
    }

    pub(super) async fn make_disk(
        &self,
        path: &Path,
        spec: &DiskSpec,
        secret: Option<&DataSecret>,
    ) -> Result<(), DiskError> {
        let (size, options) = (spec.size_bytes.to_string(), create_options());
        let mut arguments: Vec<&OsStr> = vec!["-q".as_ref(), "-f".as_ref(), "qcow2".as_ref()];
        if secret.is_some() {
            arguments.extend(["-o".as_ref(), OsStr::new(&options)]);
        }
        if let Some(Backing { path: below, format }) = &spec.below {
            if !below.is_absolute() {
                return Err(DiskError::RelativeBacking { backing: below.clone() });
            }
            let format = format.as_str().as_ref();
            // Not opened: a layer's header is some guest's.
            arguments.extend([
                "-u".as_ref(),
                "-b".as_ref(),
                below.as_os_str(),
                "-F".as_ref(),
                format,
            ]);
        }
        arguments.extend([path.as_os_str(), size.as_ref()]);
        qemu_img::run_on(&self.qemu_img, "create", secret, &arguments, self.limits).await
    }

    /// Makes the disk at `path`, which no guest has open, larger. Where it has that size already, it is
    /// left as it is. Who does it has no right to any other file: guests write headers and tables.
    ///
    /// # Errors
    /// [`DiskError::Gone`]; [`DiskError::NotADisk`] where its header names another file; those of
    /// `qemu-img`, which refuses a disk that a guest has open.
    pub async fn grow_disk(
        &self,
        path: &Path,
        size_bytes: u64,
        secret: Option<&DataSecret>,
    ) -> Result<(), DiskError> {
        match self.disk_bytes(path).await? {
            None => return Err(DiskError::Gone { path: path.to_owned() }),
            Some(bytes) if bytes >= size_bytes => return Ok(()),
            Some(_) => {}
        }
        let owned = path.to_owned();
        let user = ConfinedUid::take();
        let uid = user.number();
        let opened = move || Lent::open(&owned, uid).map_err(FileError::new("open", &owned));
        let (lent, file, file_bytes) = blocking(opened).await?;
        // Whatever its header names, nothing else is opened.
        let mut disk = serde_json::json!({
            "driver": "qcow2", "backing": null,
            "file": { "driver": "file", "filename": format!("/dev/fd/{}", file.as_raw_fd()) },
        });
        if secret.is_some() {
            disk["encrypt"] = serde_json::json!({ "format": "luks", "key-secret": KEY });
        }
        let (disk, size) = (format!("json:{disk}"), size_bytes.to_string());
        let arguments: [&OsStr; 3] = ["-q".as_ref(), disk.as_ref(), size.as_ref()];
        // A larger table goes to the end of the file.
        let file_size_bytes = file_bytes.saturating_add(self.limits.file_size_bytes);
        let limits = Limits { file_size_bytes, ..self.limits };
        let (qemu_img, resize) = (&self.qemu_img, ("resize", file));
        let grown =
            qemu_img::run_confined_on(qemu_img, &user, resize, secret, &arguments, limits).await;
        weft_crash_points::point("disk.grow.grown");
        lent.take_back().map_err(FileError::new("set the owner of", path))?;
        grown
    }

    /// What a guest sees of the disk at `path`, in bytes; `None` where there is none.
    ///
    /// # Errors
    /// [`DiskError::NotADisk`] where something else is at the path.
    pub async fn disk_bytes(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        let path = path.to_owned();
        blocking(move || match read_head(&path) {
            Ok(head) => {
                header::size(&head).map(Some).map_err(|what| DiskError::NotADisk { path, what })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::new("read", &path)(source).into()),
        })
        .await
    }
}
