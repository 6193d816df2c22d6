//! Secrets of encrypted volumes on their way to QEMU: in memory that is inherited as a descriptor, never
//! in a file, an argument or the environment.
//!
//! ```text
//!   agent ──all of them, one descriptor──▶ holder ──one each, QEMU's user may read it──▶ QEMU
//! ```

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, fchown};

use nix::sys::memfd::{MFdFlags, memfd_create};
use weft_model::{DataSecret, VolumeId};
use zeroize::Zeroizing;

/// What encrypts a guest's volumes, for those that are.
pub type VolumeSecrets = BTreeMap<VolumeId, DataSecret>;

fn memory() -> io::Result<File> {
    Ok(File::from(memfd_create(c"weft-volume-secret", MFdFlags::MFD_CLOEXEC)?))
}

/// A line for each volume: its id and its secret.
pub(crate) fn for_holder(secrets: &VolumeSecrets) -> io::Result<OwnedFd> {
    let mut file = memory()?;
    for (id, secret) in secrets {
        for part in [id.as_str(), " ", secret.reveal(), "\n"] {
            file.write_all(part.as_bytes())?;
        }
    }
    // The holder reads on from where this end stands.
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}

/// What [`for_holder`] wrote.
pub(crate) fn from_agent(fd: OwnedFd) -> io::Result<VolumeSecrets> {
    let mut file = File::from(fd);
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    // As large as it will be: nothing is left behind in memory by growing.
    let mut text = Zeroizing::new(String::with_capacity(len));
    file.read_to_string(&mut text)?;
    let parse = |line: &str| {
        let (id, secret) = line.split_once(' ')?;
        let secret = DataSecret::from_revealed(Zeroizing::new(secret.to_owned()))?;
        Some((id.parse().ok()?, secret))
    };
    let secrets: Option<VolumeSecrets> = text.lines().map(parse).collect();
    // What is wrong with a line is not told: it may have a secret in it.
    secrets.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no list of secrets"))
}

/// A secret that QEMU, which runs as `uid`, opens anew by the descriptor's name in `/proc`: the kernel
/// looks at owner and mode then, also of memory.
pub(crate) fn for_qemu(secret: &DataSecret, uid: u32) -> io::Result<OwnedFd> {
    let mut file = memory()?;
    file.write_all(secret.reveal().as_bytes())?;
    file.set_permissions(Permissions::from_mode(0o400))?;
    fchown(file.as_fd(), Some(uid), Some(uid))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> DataSecret {
        DataSecret::from_random(&Zeroizing::new([byte; weft_model::KEY_BYTES]))
    }

    #[test]
    fn the_holder_reads_what_the_agent_wrote() {
        let ids = [1, 2].map(|n| VolumeId::from_random([n; 9]));
        let secrets: VolumeSecrets = ids.iter().cloned().zip([secret(1), secret(2)]).collect();
        let read = from_agent(for_holder(&secrets).unwrap()).unwrap();
        let shown = |secrets: &VolumeSecrets| -> Vec<(VolumeId, String)> {
            secrets.iter().map(|(id, it)| (id.clone(), it.reveal().to_owned())).collect()
        };
        assert_eq!(shown(&read), shown(&secrets));
        assert!(!format!("{read:?}").contains(secret(1).reveal()));
    }

    #[test]
    fn what_is_no_list_of_secrets_is_refused_and_not_shown() {
        for text in ["vol-0123456789abcdef0 1234\n", "what\n", "vol-1 5a5a"] {
            let mut file = memory().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let error = from_agent(file.into()).unwrap_err().to_string();
            assert_eq!(error, "it is no list of secrets");
        }
    }
}
