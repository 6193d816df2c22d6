//! Root disks: copy-on-write overlays on blobs, made by `qemu-img` in bounds.
//!
//! An overlay's file is written by a hypervisor that a guest may have taken over, so its header is
//! read here and by nobody else, and compared with what it must be before it is used again.

mod confined;
mod encryption;
mod error;
mod flatten;
mod header;
mod merge;
mod qemu_img;
mod seal;
mod volume;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use weft_model::DiskFormat;

use crate::blobs::read_head;
use crate::disk_format;
use crate::files::{FileError, appear, blocking, remove, sync_dir, temporary};

pub use error::DiskError;
pub use flatten::FlattenSpec;
pub use merge::MergeSpec;
pub use qemu_img::Limits;
pub use seal::{Seal, SealSpec};
pub use volume::{Backing, DiskSpec};

/// An overlay to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlaySpec {
    /// Where.
    pub path: PathBuf,
    /// The blob below it; an absolute path.
    pub backing: PathBuf,
    /// How that is laid out. Said, never guessed: a guest could write a header into a raw disk.
    pub backing_format: DiskFormat,
    /// What was asked for, in bytes; 0 for the image's own size.
    pub size_bytes: u64,
    /// Whom the file belongs to: the uid and gid of the guest's hypervisor.
    pub uid: u32,
}

/// What an overlay's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayInfo {
    /// What the guest sees, in bytes.
    pub virtual_size_bytes: u64,
    /// The file below it.
    pub backing: PathBuf,
    /// How that is laid out, as the header puts it.
    pub backing_format: DiskFormat,
}

/// Makes and removes root disks.
#[derive(Clone, Debug)]
pub struct RootDisks {
    qemu_img: PathBuf,
    limits: Limits,
}

impl RootDisks {
    /// With `qemu_img` as the program (a path, or a name to look for in `PATH`).
    pub fn new(qemu_img: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { qemu_img: qemu_img.into(), limits }
    }

    /// Makes the overlay, of the size asked for or the image's. Where it is already, it is checked
    /// and left as it is.
    ///
    /// # Errors
    /// [`DiskError::SmallerThanImage`], [`DiskError::NotAnImage`], [`DiskError::Differs`] where
    /// there is another disk at the path, and those of `qemu-img`.
    pub async fn create_overlay(&self, spec: &OverlaySpec) -> Result<OverlayInfo, DiskError> {
        let want = wanted(spec.clone()).await?;
        if let Some(found) = self.info(&spec.path).await? {
            return check(&spec.path, want, found);
        }
        let make = async {
            let made = self.make(&temporary(&spec.path), &want).await;
            weft_crash_points::point("disk.make.overlay_made");
            made
        };
        appear(&spec.path, spec.uid, make).await?;
        let path = spec.path.clone();
        match self.info(&path).await? {
            Some(found) => check(&path, want, found),
            None => Err(DiskError::Gone { path }),
        }
    }

    /// Checks what stands behind the header of the qcow2 image `blob`, a stranger's file: that its
    /// tables lie within it and no two things lie in one place.
    ///
    /// # Errors
    /// [`DiskError::Damaged`], and those of `qemu-img`.
    pub async fn check_qcow2(&self, blob: &Path) -> Result<(), DiskError> {
        let path = blob.to_owned();
        let file = blocking(move || fs::File::open(&path).map_err(FileError::new("open", &path)));
        // The file is given, not its name: the directory is closed to who reads it. It is opened
        // anew from there, without a lock, as guests may use it.
        let arguments: [&OsStr; 6] = [
            "check".as_ref(),
            "-q".as_ref(),
            "-U".as_ref(),
            "-f".as_ref(),
            "qcow2".as_ref(),
            "/dev/fd/0".as_ref(),
        ];
        let ran =
            qemu_img::run_confined(&self.qemu_img, &arguments, file.await?, self.limits).await;
        match checked(ran, None) {
            Err(DiskError::QemuImg { message, code: Some(_), .. }) => Err(damaged(&message, None)),
            Err(DiskError::QemuImg { status, code: None, .. }) => {
                Err(DiskError::Damaged { what: format!("checking it ended with {status}") })
            }
            Err(DiskError::QemuImgTooSlow { deadline }) => Err(DiskError::Damaged {
                what: format!("checking it takes more than {} s", deadline.as_secs()),
            }),
            other => other,
        }
    }

    async fn make(&self, path: &Path, want: &OverlayInfo) -> Result<(), DiskError> {
        let size = want.virtual_size_bytes.to_string();
        let arguments: [&OsStr; 10] = [
            "create".as_ref(),
            "-q".as_ref(),
            "-f".as_ref(),
            "qcow2".as_ref(),
            "-b".as_ref(),
            want.backing.as_os_str(),
            "-F".as_ref(),
            want.backing_format.as_str().as_ref(),
            path.as_os_str(),
            size.as_ref(),
        ];
        qemu_img::run(&self.qemu_img, &arguments, self.limits).await
    }

    /// What is at `path`, if anything.
    ///
    /// # Errors
    /// [`DiskError::NotAnOverlay`] where it is something else than an overlay.
    pub async fn info(&self, path: &Path) -> Result<Option<OverlayInfo>, DiskError> {
        let path = path.to_owned();
        blocking(move || match read_head(&path) {
            Ok(head) => header::parse(&head)
                .map(Some)
                .map_err(|what| DiskError::NotAnOverlay { path, what }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::new("read", &path)(source).into()),
        })
        .await
    }

    /// Removes the disk; false where there is none.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub async fn remove(&self, path: &Path) -> Result<bool, DiskError> {
        let path = path.to_owned();
        blocking(move || {
            remove(&temporary(&path))?;
            let was_there = remove(&path)?;
            weft_crash_points::point("disk.remove.removed");
            if let Some(dir) = path.parent().filter(|_| was_there) {
                sync_dir(dir)?;
            }
            Ok(was_there)
        })
        .await
    }
}

/// What `qemu-img check` found, of the file at `path` where there are several.
fn checked(ran: Result<(), DiskError>, path: Option<&Path>) -> Result<(), DiskError> {
    match ran {
        // `man qemu-img`, check: 2 is corrupted, 3 is leaked clusters, which harm nobody.
        Err(DiskError::QemuImg { code: Some(3), .. }) => Ok(()),
        Err(DiskError::QemuImg { message, code: Some(2), .. }) => Err(damaged(&message, path)),
        ran => ran,
    }
}

fn damaged(message: &str, path: Option<&Path>) -> DiskError {
    let of = path.map(|path| format!(" of {}", path.display())).unwrap_or_default();
    DiskError::Damaged { what: format!("qemu-img check says{of} \"{}\"", shortened(message)) }
}

/// The first of what `qemu-img check` says: a file made for that has thousands of errors.
fn shortened(message: &str) -> String {
    message.split("; ").take(3).collect::<Vec<_>>().join("; ").chars().take(400).collect()
}

/// What the overlay's header has to say, from the spec and the image below.
async fn wanted(spec: OverlaySpec) -> Result<OverlayInfo, DiskError> {
    blocking(move || {
        let OverlaySpec { backing, backing_format, size_bytes, .. } = spec;
        if !backing.is_absolute() {
            return Err(DiskError::RelativeBacking { backing });
        }
        let virtual_size_bytes = {
            let read = FileError::new("read", &backing);
            let (head, len) = read_head(&backing)
                .and_then(|head| Ok((head, fs::metadata(&backing)?.len())))
                .map_err(read)?;
            let header = weft_image_format::detect(&head, len)
                .map_err(|source| DiskError::NotAnImage { backing: backing.clone(), source })?;
            if disk_format(header.format) != backing_format {
                let found = disk_format(header.format);
                return Err(DiskError::WrongFormat { backing, expected: backing_format, found });
            }
            header.virtual_size_bytes
        };
        if size_bytes != 0 && size_bytes < virtual_size_bytes {
            let image_bytes = virtual_size_bytes;
            return Err(DiskError::SmallerThanImage { requested_bytes: size_bytes, image_bytes });
        }
        // qemu-img rounds up to a sector as well.
        let virtual_size_bytes = virtual_size_bytes.max(size_bytes.next_multiple_of(512));
        Ok(OverlayInfo { virtual_size_bytes, backing, backing_format })
    })
    .await
}

fn check(path: &Path, want: OverlayInfo, found: OverlayInfo) -> Result<OverlayInfo, DiskError> {
    if want == found {
        return Ok(found);
    }
    let path = path.to_owned();
    Err(DiskError::Differs { path, want: Box::new(want), found: Box::new(found) })
}

#[cfg(test)]
mod tests;
