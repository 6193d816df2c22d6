//! The console's log: two files that together never exceed one MiB.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::layout::{CONSOLE_LOG, GuestDir, OLD_CONSOLE_LOG};

/// Upper bound of each of the two files.
pub(super) const MAX_FILE_BYTES: u64 = 512 * 1024;

pub(super) struct BoundedLog {
    dir: GuestDir,
    file: File,
    written: u64,
}

impl BoundedLog {
    /// Continues the log of earlier starts.
    pub(super) fn open(dir: &GuestDir) -> io::Result<Self> {
        let file = append(dir)?;
        let written = file.metadata()?.len();
        Ok(Self { dir: dir.clone(), file, written })
    }

    /// Appends at most [`MAX_FILE_BYTES`] bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.written.saturating_add(length) > MAX_FILE_BYTES {
            fs::rename(self.dir.file(CONSOLE_LOG), self.dir.file(OLD_CONSOLE_LOG))?;
            self.file = append(&self.dir)?;
            self.written = 0;
        }
        self.file.write_all(bytes)?;
        self.written += length;
        Ok(())
    }
}

fn append(dir: &GuestDir) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(dir.file(CONSOLE_LOG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_the_end_and_never_exceeds_its_bound() {
        let root = tempfile::tempdir().unwrap();
        let dir = GuestDir::new(root.path());
        let chunk = [b'x'; 4000];
        let size = |name| fs::metadata(dir.file(name)).map_or(0, |metadata| metadata.len());
        let mut log = BoundedLog::open(&dir).unwrap();
        for round in 0..400 {
            log.write(&chunk).unwrap();
            if round % 100 == 50 {
                // Another start of the same guest.
                log = BoundedLog::open(&dir).unwrap();
            }
            assert!(size(CONSOLE_LOG) <= MAX_FILE_BYTES);
            assert!(size(OLD_CONSOLE_LOG) <= MAX_FILE_BYTES);
        }
        log.write(b"end").unwrap();
        assert!(size(CONSOLE_LOG) + size(OLD_CONSOLE_LOG) > MAX_FILE_BYTES);
        assert!(fs::read(dir.file(CONSOLE_LOG)).unwrap().ends_with(b"end"));
    }
}
