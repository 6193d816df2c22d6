//! A lock that belongs to an open file, passes to a child with it, and can be asked for without
//! being taken.
//!
//! An "open file description lock" (fcntl(2), Linux 3.15), not flock(2): there the only way to look
//! is to take it for a moment, which makes whoever wants it in that moment believe that it is
//! another's.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// Takes the lock of a file that is open for writing, until its last descriptor is closed; false
/// if another open file has it.
pub(crate) fn take(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file()?)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether another open file has the lock.
pub(crate) fn is_taken(file: &File) -> io::Result<bool> {
    let mut lock = whole_file()?;
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// From the first byte, without end; the process id must be 0 for this kind of lock.
fn whole_file() -> io::Result<libc::flock> {
    let short = |value: i32| libc::c_short::try_from(value).map_err(io::Error::other);
    Ok(libc::flock {
        l_type: short(libc::F_WRLCK)?,
        l_whence: short(libc::SEEK_SET)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_of_the_open_file_and_not_of_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::options().create(true).append(true).open(dir.path().join("lock"));
        let (first, second) = (open().unwrap(), open().unwrap());
        assert!(take(&first).unwrap());
        let inherited = first.try_clone().unwrap();
        assert!(take(&inherited).unwrap(), "it has it already");
        assert!(!is_taken(&inherited).unwrap(), "by another");
        assert!(!take(&second).unwrap());
        drop(first);
        assert!(is_taken(&second).unwrap(), "a descriptor is left");
        drop(inherited);
        assert!(!is_taken(&second).unwrap());
        assert!(take(&second).unwrap());
    }
}
