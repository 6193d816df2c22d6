//! Files that are replaced in one step.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Who reads `path` sees the old content or the new, never a part; durable when it returns.
///
/// # Errors
/// The file cannot be written; it is then as it was.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let temporary = temporary(path);
    let written = (|| {
        // What an earlier run left that was killed.
        let _ = fs::remove_file(&temporary);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        weft_crash_points::point("own_file.replace.written");
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    })();
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Where `path` is prepared: what a crash leaves.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}
