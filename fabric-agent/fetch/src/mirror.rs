//! Files that are taken from a directory of this machine instead of from their servers.
//!
//! A file lies where `wget --force-directories` puts it: below the server's name (and port, where the
//! URL has one), by the URL's path.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use weft_model::ImageUrl;

use crate::error::FetchError;

/// Read at once, in bytes.
const CHUNK: usize = 1 << 20;

/// A directory with copies of files.
#[derive(Clone, Debug)]
pub(crate) struct Mirror(PathBuf);

/// A file of it that is being read.
#[derive(Debug)]
pub(crate) struct MirroredFile {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    file: Arc<File>,
    at: u64,
}

impl Mirror {
    /// # Errors
    /// [`FetchError::Mirror`] where it is no directory.
    pub(crate) fn new(directory: PathBuf) -> Result<Self, FetchError> {
        let metadata = std::fs::metadata(&directory).map_err(failed(&directory))?;
        if !metadata.is_dir() {
            let error = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(failed(&directory)(error));
        }
        Ok(Self(directory))
    }

    /// The copy of what is at `url`, read from `offset` on; `None` where there is none.
    ///
    /// # Errors
    /// [`FetchError::Mirror`] where it is there and cannot be read.
    pub(crate) fn open(
        &self,
        url: &ImageUrl,
        offset: u64,
    ) -> Result<Option<MirroredFile>, FetchError> {
        let Some(path) =
            url.host_and_path().as_deref().and_then(place).map(|place| self.0.join(place))
        else {
            return Ok(None);
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(failed(&path)(error)),
        };
        let metadata = file.metadata().map_err(failed(&path))?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let len = metadata.len();
        // What has come of a longer file is of another one.
        let at = if offset <= len { offset } else { 0 };
        Ok(Some(MirroredFile { path, len, file: Arc::new(file), at }))
    }
}

impl MirroredFile {
    /// Where [`Self::chunk`] goes on.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// [`FetchError::Mirror`].
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        let (file, at) = (Arc::clone(&self.file), self.at);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; CHUNK];
            let read = file.read_at(&mut bytes, at)?;
            bytes.truncate(read);
            Ok::<_, io::Error>(bytes)
        });
        let read = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let bytes = read.map_err(failed(&self.path))?;
        self.at += bytes.len() as u64;
        Ok((!bytes.is_empty()).then(|| bytes.into()))
    }
}

fn absent(error: &io::Error) -> bool {
    // A file stands where a directory would have to.
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Mirror { path, source }
}

/// A path below the mirror; `None` where it would lead out of it, or nowhere.
fn place(host_and_path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(host_and_path);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    (inside && !host_and_path.contains('\0') && !host_and_path.ends_with('/')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ImageUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_file_lies_where_wget_puts_it_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("mirror/host.example:8080/images/a b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join("disk.img"), b"disk").unwrap();
        std::fs::write(dir.path().join("secret"), b"secret").unwrap();
        let mirror = Mirror::new(dir.path().join("mirror")).unwrap();
        let found = |text: &str| mirror.open(&url(text), 0).unwrap().map(|file| file.len);
        assert_eq!(found("http://host.example:8080/images/a%20b/disk.img"), Some(4));
        assert_eq!(found("https://u:p@HOST.example:8080/images/./a%20b/disk.img"), Some(4));
        #[rustfmt::skip]
        let absent = [
            "http://host.example/images/a%20b/disk.img", "http://host.example:8080/images/a%20b",
            "http://host.example:8080/images/a%20b/disk.img/x", "http://host.example:8080/",
            "http://host.example:8080/../../secret", "http://host.example:8080/%2e%2e/%2e%2e/secret",
            "http://host.example:8080/..%2f..%2fsecret", "http://host.example:8080/x%00",
        ];
        for text in absent {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn it_is_read_from_where_an_earlier_answer_ended() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("h")).unwrap();
        let bytes: Vec<u8> = (0..CHUNK + 5).map(|n| (n % 251) as u8).collect();
        std::fs::write(dir.path().join("h/f"), &bytes).unwrap();
        let mirror = Mirror::new(dir.path().to_owned()).unwrap();
        for (asked, begins) in [(0, 0), (3, 3), (bytes.len() as u64 + 1, 0)] {
            let mut file = mirror.open(&url("http://h/f"), asked).unwrap().unwrap();
            assert_eq!(file.offset(), begins);
            let mut got = Vec::new();
            while let Some(chunk) = file.chunk().await.unwrap() {
                got.extend_from_slice(&chunk);
            }
            assert!(got == bytes[begins as usize..], "from {begins}");
        }
    }

    #[test]
    fn a_mirror_that_is_no_directory_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/nowhere/mirror")] {
            let error = Mirror::new(path.to_owned()).unwrap_err();
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}
