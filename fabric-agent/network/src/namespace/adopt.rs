//! Finds the namespace of a holder that was killed, while others still have it open.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Namespace;
use crate::NetworkError;
use crate::holder::{HolderRecord, cookie};

/// A namespace that lost its holder. It lives at least as long as this.
#[derive(Debug)]
pub(super) struct Orphan {
    namespace: Namespace,
    /// Who held it, and by what it was found again.
    pub(super) lost: HolderRecord,
}

impl Orphan {
    /// A path that a child of this process can open as long as this lives: not the candidate's,
    /// whose process may end, and whose number may come to mean another.
    pub(super) fn path_for_others(&self) -> PathBuf {
        let fd: RawFd = self.namespace.file().as_raw_fd();
        format!("/proc/{}/fd/{fd}", std::process::id()).into()
    }
}

/// The one of `candidates` that is the namespace which `record` tells of.
///
/// The inode alone would not do: after the namespace's end it may be another VPC's. A record
/// without a cookie, from a kernel that has none, adopts nothing, and says so.
pub(super) fn find(record: &Path, candidates: &[PathBuf]) -> Result<Option<Orphan>, NetworkError> {
    let Some(lost) = HolderRecord::read(record)?.filter(HolderRecord::is_of_this_boot) else {
        return Ok(None);
    };
    for path in candidates {
        // Whoever had it open may have closed it, or ended.
        let Ok(file) = File::open(path) else { continue };
        if !file.metadata().is_ok_and(|metadata| metadata.ino() == lost.namespace) {
            continue;
        }
        if lost.cookie.is_none() {
            tracing::warn!(
                record = %record.display(),
                "cannot tell the network namespace of running guests from another (this needs \
                 Linux 5.14); a new one is made, restart the VPC's guests"
            );
            return Ok(None);
        }
        let namespace = Namespace::new(file, None);
        match namespace.enter(cookie) {
            Ok(Ok(cookie)) if cookie == lost.cookie => return Ok(Some(Orphan { namespace, lost })),
            Ok(Ok(_another)) => {}
            Ok(Err(source)) => return Err(namespace.enter_failed(source)),
            // Not a namespace at all, with an equal inode of another file system.
            Err(NetworkError::Enter { source, .. })
                if source.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
