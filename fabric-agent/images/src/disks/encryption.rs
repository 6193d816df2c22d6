//! Encrypted disks: LUKS inside qcow2, as `qemu-img` is told of it.
//!
//! Each file of a disk has a LUKS header of its own; all have one passphrase. It is given as a file in
//! memory that the process inherits: neither its arguments nor any directory have it. Options: QEMU
//! `qapi/block-core.json` (`BlockdevCreateOptionsLUKS`), `qapi/crypto.json` (`SecretProperties`).

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};
use weft_model::DataSecret;

use super::confined::{ConfinedUid, lend};
use super::qemu_img::Limits;
use crate::files::FileError;

/// What `qemu-img` calls the passphrase.
pub(super) const KEY: &str = "key";

/// The passphrase is 256 random bits: making it slow to try others, which is what LUKS counts
/// iterations for, would only make each start of a guest slow. In milliseconds of one processor.
const ITERATIONS_MS: u32 = 10;

/// How QEMU's LUKS driver finds out what the processor can do: it tries until it has taken a second,
/// twice for a header (`qcrypto_pbkdf2_count_iters` in QEMU's `crypto/pbkdf.c`). In seconds.
const TRIES_SECONDS: u64 = 20;

/// The option `-o` of `qemu-img create` for an encrypted disk.
pub(super) fn create_options() -> String {
    format!("encrypt.format=luks,encrypt.key-secret={KEY},encrypt.iter-time={ITERATIONS_MS}")
}

/// What making a LUKS header takes besides: it has 2 MiB, most of it empty.
pub(super) fn limits(limits: Limits) -> Limits {
    let cpu_seconds = limits.cpu_seconds + TRIES_SECONDS;
    Limits { cpu_seconds, deadline: limits.deadline * 3, ..limits }
}

/// A passphrase in memory, to be inherited.
#[derive(Debug)]
pub(super) struct Passphrase(OwnedFd);

impl Passphrase {
    pub(super) fn open(secret: &DataSecret) -> Result<Self, FileError> {
        let kept = || -> io::Result<File> {
            let mut file = File::from(memfd_create(c"weft-volume-secret", MFdFlags::MFD_CLOEXEC)?);
            file.write_all(secret.reveal().as_bytes())?;
            // Memory has mode 0777 when it is made, and the kernel looks at that where a descriptor is
            // opened anew.
            file.set_permissions(Permissions::from_mode(0o400))?;
            Ok(file)
        };
        let file =
            kept().map_err(FileError::new("keep in memory", Path::new("a volume's secret")))?;
        Ok(Self(file.into()))
    }

    /// For a process of that user.
    pub(super) fn lent_to(self, user: &ConfinedUid) -> Result<Self, FileError> {
        let given = lend(&self.0, user.number());
        given.map_err(FileError::new("set the owner of", Path::new("a volume's secret")))?;
        Ok(self)
    }

    /// The argument of `--object`. The file is opened anew by that name, and so read from its start.
    pub(super) fn object(&self) -> String {
        format!("secret,id={KEY},file=/dev/fd/{}", self.0.as_raw_fd())
    }

    /// To be inherited.
    pub(super) fn into_fd(self) -> OwnedFd {
        self.0
    }
}

#[cfg(test)]
mod tests;
