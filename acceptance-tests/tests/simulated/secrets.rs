//! Looks for a secret in all that was written.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The files below `directory`, however deep, that have `secret` in them, by their paths from there. Of a
/// zip, which a plan file is, what is packed in it.
pub(crate) fn files_with(directory: &Path, secret: &str) -> Result<Vec<String>> {
    ensure!(!secret.is_empty(), "every file has nothing in it");
    let mut found = Vec::new();
    look(directory, directory, secret.as_bytes(), &mut found)?;
    found.sort();
    Ok(found)
}

fn look(root: &Path, directory: &Path, secret: &[u8], found: &mut Vec<String>) -> Result<()> {
    let entries = std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            look(root, &path, secret, found)?;
        } else if kind.is_file() && content(&path)?.windows(secret.len()).any(|it| it == secret) {
            found.push(path.strip_prefix(root).unwrap_or(&path).display().to_string());
        }
    }
    Ok(())
}

fn content(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    if !bytes.starts_with(b"PK\x03\x04") {
        return Ok(bytes);
    }
    let code = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\n\
                sys.stdout.buffer.write(b''.join(z.read(n) for n in z.namelist()))";
    let output = Command::new("python3").args(["-c", code]).arg(path).output();
    let output = output.context("python3 unpacks a zip")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(!output.stdout.is_empty(), "{} is empty", path.display());
    Ok(output.stdout)
}
