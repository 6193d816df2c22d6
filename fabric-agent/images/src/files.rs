//! Files that are there as a whole or not at all, also after a power cut.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use tokio::task;

/// Something with a file failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct FileError {
    /// "create", "rename".
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }

    /// Whether the same action may succeed later.
    pub fn is_retryable(&self) -> bool {
        use io::ErrorKind::{InvalidFilename, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
        !matches!(
            self.source.kind(),
            InvalidFilename | NotADirectory | PermissionDenied | ReadOnlyFilesystem
        )
    }
}

/// Runs file work where it may block. Once begun it runs to its end, even if nobody waits for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is shut down cancels such work, and it polls nobody any more.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

/// Where `path` is prepared before it is renamed; always the same, so that a crash leaves at most
/// one.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// The name that what is prepared under `name` will have; `None` where that is no [`temporary`] name.
pub(crate) fn temporary_of(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(".new")
}

/// Makes names that were made, renamed or removed in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(FileError::new("sync directory", dir))
}

pub(crate) fn create_dir(dir: &Path) -> Result<(), FileError> {
    fs::create_dir_all(dir).map_err(FileError::new("create directory", dir))
}

/// Makes the finished `from` appear as `to`, for `uid` and its group, readable by it only.
pub(crate) fn publish(from: &Path, to: &Path, uid: u32) -> Result<(), FileError> {
    let file = File::open(from).map_err(FileError::new("open", from))?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    file.set_permissions(permissions).map_err(FileError::new("set the mode of", from))?;
    fchown(&file, Some(uid), Some(uid)).map_err(FileError::new("set the owner of", from))?;
    file.sync_all().map_err(FileError::new("sync", from))?;
    weft_crash_points::point("file.publish.before_rename");
    fs::rename(from, to).map_err(FileError::new("rename to", to))?;
    weft_crash_points::point("file.publish.after_rename");
    match to.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}

/// Has `make` make a file at `temporary(path)`, and gives it the name `path`, as [`publish`] does, once
/// it is whole.
///
/// # Errors
/// Those of `make`, and [`FileError`]; nothing of the file is left then.
pub(crate) async fn appear<E: From<FileError> + Send + 'static>(
    path: &Path,
    uid: u32,
    make: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let (new, path) = (temporary(path), path.to_owned());
    let (dir, stale) = (path.parent().map(Path::to_owned), new.clone());
    blocking(move || {
        dir.as_deref().map_or(Ok(()), create_dir)?;
        remove(&stale).map(|_| ()) // Left by a crash.
    })
    .await?;
    let made = make.await;
    blocking(move || {
        let published = made.and_then(|()| Ok(publish(&new, &path, uid)?));
        if published.is_err() {
            let _ = remove(&new); // The first error is the one to tell.
        }
        published
    })
    .await
}

/// Removes a file; false where there is none.
pub(crate) fn remove(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FileError::new("remove", path)(source)),
    }
}

/// Writes `bytes` to `path`, for `uid` and its group, readable by it only. Who reads `path` sees
/// the old content or the new, never a part.
///
/// # Errors
/// [`FileError`] says which step failed; `path` is then as it was.
pub async fn write_file_atomic(
    path: impl Into<PathBuf>,
    bytes: impl Into<bytes::Bytes>,
    uid: u32,
) -> Result<(), FileError> {
    let (path, bytes) = (path.into(), bytes.into());
    blocking(move || {
        let new = temporary(&path);
        remove(&new)?; // Left by a crash, perhaps with another owner.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(FileError::new("create", &new))?;
        let written = file
            .write_all(&bytes)
            .map_err(FileError::new("write", &new))
            .inspect(|()| weft_crash_points::point("file.write.written"))
            .and_then(|()| publish(&new, &path, uid));
        if written.is_err() {
            let _ = remove(&new); // The first error is the one to tell.
        }
        written
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn a_file_is_replaced_as_a_whole_with_owner_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.img");
        let uid = nix::unistd::getuid().as_raw();
        fs::write(temporary(&path), "left by a crash").unwrap();
        for content in ["first, and longer", "second"] {
            write_file_atomic(&path, content, uid).await.unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.uid(), metadata.gid()), (0o600, uid, uid));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[tokio::test]
    async fn a_failure_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("busy");
        fs::create_dir_all(path.join("not empty")).unwrap();
        let error = write_file_atomic(&path, "new", 0).await.unwrap_err();
        assert_eq!(error.action, "rename to");
        assert!(path.join("not empty").is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }
}
