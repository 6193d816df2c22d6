//! The QEMU binary of this host: where it is and what it can do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// The oldest version that the command line is written for.
const OLDEST: QemuVersion = QemuVersion { major: 7, minor: 2, micro: 0 };

/// Debian and Ubuntu install the first name, Fedora and its relatives the second.
const CANDIDATES: [&str; 3] =
    ["/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm", "/usr/local/bin/qemu-system-x86_64"];

/// A version as `qemu-system-x86_64 --version` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QemuVersion {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub micro: u16,
}

/// A QEMU that may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuBinary {
    /// The executable.
    pub path: PathBuf,
    /// Its version.
    pub version: QemuVersion,
    /// Whether `-accel kvm,device=` exists, so that `/dev/kvm` can be passed as a file descriptor.
    pub kvm_device_option: bool,
}

/// Why no QEMU can be used.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// None of the usual places has one.
    #[error("qemu-system-x86_64 was not found; install it (Debian: apt install qemu-system-x86)")]
    NotFound,
    /// The binary could not be started.
    #[error("run {path} {argument}")]
    Run {
        /// The executable.
        path: PathBuf,
        /// The argument it was asked with.
        argument: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What it printed is not a version.
    #[error("{path} --version printed \"{output}\", which names no version")]
    NoVersion {
        /// The executable.
        path: PathBuf,
        /// The first line it printed.
        output: String,
    },
    /// Too old.
    #[error("{path} is QEMU {version}; {OLDEST} or newer is needed")]
    TooOld {
        /// The executable.
        path: PathBuf,
        /// Its version.
        version: QemuVersion,
    },
}

impl QemuError {
    /// Whether the same call may succeed later with nothing changed by a person.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Run { source, .. } if source.kind() != io::ErrorKind::NotFound)
    }
}

impl QemuBinary {
    /// Finds QEMU in the usual places and asks it what it is.
    pub fn detect() -> Result<Self, QemuError> {
        let path = CANDIDATES.iter().map(Path::new).find(|path| path.exists());
        Self::at(path.ok_or(QemuError::NotFound)?)
    }

    /// Asks the QEMU at `path` what it is.
    pub fn at(path: &Path) -> Result<Self, QemuError> {
        let version_text = run(path, "--version")?;
        let version = parse_version(&version_text).ok_or_else(|| QemuError::NoVersion {
            path: path.to_owned(),
            output: version_text.lines().next().unwrap_or_default().to_owned(),
        })?;
        if version < OLDEST {
            return Err(QemuError::TooOld { path: path.to_owned(), version });
        }
        let kvm_device_option = offers_kvm_device(&run(path, "-help")?);
        Ok(Self { path: path.to_owned(), version, kvm_device_option })
    }
}

fn run(path: &Path, argument: &'static str) -> Result<String, QemuError> {
    let output = Command::new(path)
        .arg(argument)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| QemuError::Run { path: path.to_owned(), argument, source })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)".
fn parse_version(text: &str) -> Option<QemuVersion> {
    let number = text.split_once("version ")?.1.split_whitespace().next()?;
    let mut parts = number.split('.').map(|part| {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse::<u16>().ok()
    });
    Some(QemuVersion {
        major: parts.next()??,
        minor: parts.next()??,
        micro: parts.next().flatten().unwrap_or(0),
    })
}

/// The option is recognised by the help text, so no table of versions can be wrong about a
/// distribution that carries it as a patch.
fn offers_kvm_device(help: &str) -> bool {
    help.contains("device=path (KVM device path")
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_understood() {
        #[rustfmt::skip]
        let cases = [
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)", Some((10, 0, 2))),
            ("QEMU emulator version 7.2.0\nCopyright", Some((7, 2, 0))),
            ("QEMU emulator version 9.1.50 (v9.1.0-1-gabc)", Some((9, 1, 50))),
            ("QEMU emulator version 8.2", Some((8, 2, 0))),
            ("QEMU emulator version 10.1.0-rc1", Some((10, 1, 0))),
            ("bash: not found", None),
        ];
        for (text, want) in cases {
            let got = parse_version(text).map(|v| (v.major, v.minor, v.micro));
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn an_old_qemu_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu");
        std::fs::write(&path, "#!/bin/sh\necho 'QEMU emulator version 6.2.0'\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        let error = QemuBinary::at(&path).unwrap_err().to_string();
        assert!(error.contains("is QEMU 6.2.0; 7.2.0 or newer is needed"), "{error}");
    }

    #[test]
    fn the_installed_qemu_is_found() {
        let found = QemuBinary::detect().unwrap();
        assert!(found.version >= OLDEST);
    }
}
