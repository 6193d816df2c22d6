//! The files of an image on this machine: what they are, and their digests.
//!
//! A digest is computed once for each path, size and time of change: it is remembered in this
//! process and, through private state, from one run of Terraform to the next.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weft_image_format::{HEAD_BYTES, detect, detect_kernel, wrong_and_remedy};
use weft_image_unpack::{Compression, Glance, glance};
use weft_model::{Digest, Problem, Reason};

/// What a file has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Disk,
    Kernel,
    Initrd,
}

impl Role {
    /// The attribute that names the file.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Disk => "source_path",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Disk => "image",
            Self::Kernel => "kernel",
            Self::Initrd => "initial RAM filesystem",
        }
    }
}

/// A file that was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Inspected {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Of a disk: what a guest sees, in bytes; not known of a compressed raw one.
    pub(crate) virtual_size_bytes: Option<u64>,
}

/// Digests by what tells whether a file is still the same.
#[derive(Debug, Default)]
pub(crate) struct Digests(Mutex<BTreeMap<Fingerprint, Digest>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Fingerprint {
    path: PathBuf,
    size: u64,
    /// Since 1970.
    mtime_ns: u64,
}

/// As kept in private state.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    #[serde(flatten)]
    file: Fingerprint,
    digest: Digest,
}

impl Digests {
    /// Takes over what an earlier run computed.
    pub(crate) fn recall(&self, private: Option<&str>) {
        // Private state is ours, but a cache that cannot be read is merely empty.
        let known: Vec<Remembered> =
            private.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        self.with(|digests| digests.extend(known.into_iter().map(|r| (r.file, r.digest))));
    }

    /// What is known about `files`, for private state.
    pub(crate) fn remember(&self, files: &[Inspected]) -> String {
        let known = self.with(|digests| {
            let ours =
                |file: &Fingerprint| files.iter().any(|inspected| inspected.path == file.path);
            digests
                .iter()
                .filter(|(file, _)| ours(file))
                .map(|(file, digest)| Remembered { file: file.clone(), digest: *digest })
                .collect::<Vec<_>>()
        });
        serde_json::to_string(&known).unwrap_or_default()
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Fingerprint, Digest>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the file at `path`: whether it can be what `role` wants, and its digest.
    /// Blocks; reads the whole file where its digest is not known.
    ///
    /// # Errors
    /// [`Reason::NotFound`] where there is no file, else [`Reason::InvalidArgument`]; both at the
    /// attribute of `role`.
    pub(crate) fn inspect(&self, path: &Path, role: Role) -> Result<Inspected, Problem> {
        let io = |error: std::io::Error| cannot_read(path, role, &error);
        // Looked at before it is opened: opening a FIFO waits for its writer.
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            let message = format!("{} is not a file", path.display());
            return Err(Problem::invalid(role.attribute(), message)
                .remedy(format!("name the file of the {} itself", role.noun())));
        }
        let mut file = std::fs::File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let size = metadata.len();
        let mut head = Vec::new();
        (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(io)?;
        let virtual_size_bytes = judge(&head, size, role).map_err(|(message, remedy)| {
            let problem =
                Problem::invalid(role.attribute(), format!("{}: {message}", path.display()));
            match remedy {
                Some(remedy) => problem.remedy(remedy),
                None => problem,
            }
        })?;
        let mtime = metadata.modified().map_err(io)?;
        // A file from before 1970 is as good as any other: it only has to be told apart.
        let mtime_ns = mtime.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let mtime_ns = u64::try_from(mtime_ns).unwrap_or(u64::MAX);
        let fingerprint = Fingerprint { path: path.to_owned(), size, mtime_ns };
        let known = self.with(|digests| digests.get(&fingerprint).copied());
        let digest = match known {
            Some(digest) => digest,
            None => {
                tracing::info!(path = %path.display(), bytes = size, "computing the digest");
                let digest = sha256(&head, &mut file).map_err(io)?;
                self.with(|digests| digests.insert(fingerprint, digest));
                digest
            }
        };
        Ok(Inspected { path: path.to_owned(), digest, size, virtual_size_bytes })
    }
}

/// The virtual size of a disk, where it is known, or what is wrong and what to
/// do.
fn judge(head: &[u8], size: u64, role: Role) -> Result<Option<u64>, (String, Option<String>)> {
    let split = |text: String| {
        let (wrong, remedy) = wrong_and_remedy(&text);
        (wrong.to_owned(), remedy.map(str::to_owned))
    };
    match role {
        Role::Disk => match Compression::detect(head) {
            Some(kind) => match glance(head, Some(size), kind) {
                Ok(Glance::Disk { virtual_size_bytes }) => Ok(virtual_size_bytes),
                Ok(Glance::Unknown) => Ok(None),
                Err(error) => Err(split(error.to_string())),
            },
            None => detect(head, size)
                .map(|header| Some(header.virtual_size_bytes))
                .map_err(|error| split(error.to_string())),
        },
        Role::Kernel => detect_kernel(head).map(|_| None).map_err(|error| split(error.to_string())),
        Role::Initrd if size == 0 => Err((
            "the file is empty".to_owned(),
            Some("build the initial RAM filesystem again, or leave initrd out".to_owned()),
        )),
        Role::Initrd => Ok(None),
    }
}

fn sha256(head: &[u8], rest: &mut impl std::io::Read) -> std::io::Result<Digest> {
    let mut hasher = Sha256::new();
    hasher.update(head);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match rest.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn cannot_read(path: &Path, role: Role, error: &std::io::Error) -> Problem {
    let (noun, shown) = (role.noun(), path.display());
    if error.kind() == std::io::ErrorKind::NotFound {
        return Problem::not_found(format!("there is no {noun} at {shown}"))
            .at(role.attribute())
            .remedy("check the path; it is relative to where terraform runs");
    }
    Problem::new(Reason::InvalidArgument, format!("the {noun} at {shown} cannot be read: {error}"))
        .at(role.attribute())
        .remedy("make it readable for the user who runs terraform")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_computed_again_only_when_the_file_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let digests = Digests::default();
        let first = digests.inspect(&path, Role::Disk).unwrap();
        assert_eq!(first.digest.to_string(), hex::encode(Sha256::digest(vec![7; 100_000])));
        assert_eq!((first.size, first.virtual_size_bytes), (100_000, Some(100_352)));

        // Another process knows it from private state: a wrong digest there proves that it is used.
        let text = digests.remember(std::slice::from_ref(&first));
        let forged = text.replace(&first.digest.to_string(), &"0".repeat(64));
        let other = Digests::default();
        other.recall(Some(&forged));
        assert_eq!(other.inspect(&path, Role::Disk).unwrap().digest.to_string(), "0".repeat(64));

        std::fs::write(&path, vec![8; 100_001]).unwrap();
        let second = other.inspect(&path, Role::Disk).unwrap();
        assert_eq!(second.digest.to_string(), hex::encode(Sha256::digest(vec![8; 100_001])));
    }

    #[test]
    fn files_that_cannot_be_it_are_refused_with_their_attribute() {
        let directory = tempfile::tempdir().unwrap();
        let page: &[u8] = b"<!DOCTYPE html><html>";
        #[rustfmt::skip]
        let cases: [(&str, &[u8], Role, &str, &str); 5] = [
            ("empty.raw",   b"",                Role::Disk,   "source_path", "empty"),
            ("page.raw",    page,               Role::Disk,   "source_path", "web page"),
            ("short.qcow2", b"QFI\xfb\0\0\0\x03", Role::Disk, "source_path", "truncated"),
            ("kernel",      b"\x7fELF",         Role::Kernel, "kernel",      "ELF"),
            ("initrd",      b"",                Role::Initrd, "initrd",      "empty"),
        ];
        for (name, content, role, field, word) in cases {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            let problem = Digests::default().inspect(&path, role).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field), "{name}");
            assert!(problem.message.contains(word), "{name}: {problem}");
        }
        let problem =
            Digests::default().inspect(&directory.path().join("no"), Role::Disk).unwrap_err();
        assert_eq!(problem.reason, Reason::NotFound);
    }
}
