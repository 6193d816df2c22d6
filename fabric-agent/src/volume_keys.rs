//! The root key of encrypted volumes: what makes, wraps and opens the secret of each.
//!
//! ```text
//!   root key (a file of the operator's) ──AES-256-GCM──▶ WrappedSecret (the store, actions)
//!                                                            │ opened by the host, when a disk is
//!                                                            ▼
//!                                                       DataSecret ──▶ qemu-img, QEMU: LUKS
//! ```
//!
//! The key is read once, at the start, and is nowhere but in this process. A secret that another key
//! wrapped is told from one that was tampered with by the key's id, which is a digest of it.

mod check;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use sha2::{Digest as _, Sha256};
use weft_model::{
    DataSecret, HexBytes, KEY_BYTES, Problem, Reason, RootKeyId, SecretId, WrappedSecret,
};
use zeroize::Zeroizing;

use crate::host::HostError;
use crate::random;

/// The flag that names the file.
const FLAG: &str = "--volume-key-file";
/// What a key's id is a digest of, besides the key: nothing else in the world has the same digest.
const ID_OF: &[u8] = b"weft root key of volumes";
/// What is sealed together with the secret's id, so that it is good for nothing else.
const SEALED_AS: &[u8] = b"weft volume secret 1";
/// The longest file that is read, in bytes: a key, and whatever an editor puts around it.
const MAX_FILE_BYTES: u64 = 1024;

/// What the agent can do with the secrets of volumes.
#[derive(Debug, Default)]
pub(crate) struct VolumeKeys {
    root: Option<RootKey>,
}

struct RootKey {
    id: RootKeyId,
    key: RandomizedNonceKey,
    file: PathBuf,
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({})", self.id)
    }
}

impl VolumeKeys {
    /// With the key in `file`; without one there are no encrypted volumes.
    ///
    /// # Errors
    /// The file cannot be read, may be read by others, or has something else in it.
    pub(crate) fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let root = match file {
            Some(file) => Some(
                RootKey::read(file)
                    .with_context(|| format!("cannot use {FLAG} {}", file.display()))?,
            ),
            None => None,
        };
        Ok(Self { root })
    }

    /// Which root key there is.
    pub(crate) fn id(&self) -> Option<RootKeyId> {
        self.root.as_ref().map(|root| root.id)
    }

    /// A secret for a new volume.
    ///
    /// # Errors
    /// There is no root key: a [`Problem`] at `encrypted`.
    pub(crate) fn new_secret(&self) -> Result<WrappedSecret, Problem> {
        let root = self.root.as_ref().ok_or_else(weft_model::no_root_key)?;
        let secret = DataSecret::from_random(&Zeroizing::new(random::bytes()));
        Ok(root.wrap(&secret))
    }

    /// The secret in the clear.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn unwrap(&self, wrapped: &WrappedSecret) -> Result<DataSecret, KeyError> {
        let needed = wrapped.root_key;
        let Some(root) = &self.root else { return Err(KeyError::NoRootKey { needed }) };
        if root.id != needed {
            return Err(KeyError::OtherRootKey { needed, has: root.id, file: root.file.clone() });
        }
        root.unwrap(wrapped).ok_or(KeyError::Tampered { secret: wrapped.id })
    }

    /// The secret of a disk that may have none.
    ///
    /// # Errors
    /// As [`Self::unwrap`]. It may be tried again: the next agent may have the key.
    pub(crate) fn of_disk(
        &self,
        what: impl fmt::Display,
        wrapped: Option<&WrappedSecret>,
    ) -> Result<Option<DataSecret>, HostError> {
        wrapped.map(|wrapped| self.unwrap(wrapped)).transpose().map_err(|error| {
            HostError::new(format!("open {what}: {}", error.told()), true)
                .reason(Reason::FailedPrecondition)
        })
    }
}

/// Why a volume's secret cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("the volume is encrypted with the root key {needed}, and this host's agent has none")]
    NoRootKey { needed: RootKeyId },
    #[error("the volume is encrypted with the root key {needed}, and {} has the key {has}", file.display())]
    OtherRootKey { needed: RootKeyId, has: RootKeyId, file: PathBuf },
    #[error(
        "the volume's secret {secret} in the store is not as the agent wrote it: it was changed"
    )]
    Tampered { secret: SecretId },
}

impl KeyError {
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::NoRootKey { .. } => format!("start the agent with {FLAG} and that key's file"),
            Self::OtherRootKey { needed, .. } => {
                format!("start the agent with {FLAG} and the file of the key {needed}")
            }
            Self::Tampered { .. } => "put the store back from a copy of it".to_owned(),
        }
    }

    /// What is wrong and what helps, in one line.
    pub(crate) fn told(&self) -> String {
        format!("{self}; {}", self.remedy())
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        Self::new(Reason::FailedPrecondition, error.to_string()).remedy(error.remedy())
    }
}

impl RootKey {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(path).context("it cannot be opened")?;
        let metadata = file.metadata().context("it cannot be looked at")?;
        ensure!(metadata.is_file(), "it is no file");
        let own = nix::unistd::geteuid().as_raw();
        ensure!(
            metadata.uid() == own,
            "it belongs to the user {}, who could read it: give it to the agent's own (chown {own})",
            metadata.uid()
        );
        ensure!(
            metadata.mode() & 0o077 == 0,
            "others may read or change it (mode {:04o}): chmod 0600 {}",
            metadata.mode() & 0o7777,
            path.display()
        );
        ensure!(
            metadata.len() <= MAX_FILE_BYTES,
            "it has {} bytes, and a key has {} hexadecimal digits",
            metadata.len(),
            2 * KEY_BYTES
        );
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize));
        (&mut file).take(MAX_FILE_BYTES).read_to_end(&mut text).context("it cannot be read")?;
        let digits = text.trim_ascii();
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        // What is in the file is never shown.
        if hex::decode_to_slice(digits, key.as_mut_slice()).is_err() {
            bail!(
                "a key is {} hexadecimal digits, and this is something else ({} bytes): \
                 fabric-agent volume-key FILE makes one",
                2 * KEY_BYTES,
                digits.len()
            );
        }
        Self::new(&key, path)
    }

    fn new(bytes: &[u8; KEY_BYTES], file: &Path) -> anyhow::Result<Self> {
        let digest = Sha256::new().chain_update(ID_OF).chain_update(bytes).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        let key =
            RandomizedNonceKey::new(&AES_256_GCM, bytes).context("it is no key of AES-256")?;
        Ok(Self { id: HexBytes(id), key, file: file.to_owned() })
    }

    /// With a nonce that the library draws: far fewer than 2^32 are drawn for one key (NIST SP 800-38D,
    /// 8.3).
    fn wrap(&self, secret: &DataSecret) -> WrappedSecret {
        let id = HexBytes(random::bytes());
        let mut sealed = HexBytes([0; 80]);
        let (text, tag) = sealed.0.split_at_mut(2 * KEY_BYTES);
        text.copy_from_slice(secret.reveal().as_bytes());
        let made = self.key.seal_in_place_separate_tag(bound_to(&id.0), text);
        #[expect(clippy::expect_used, reason = "AES-GCM fails on messages of 64 GiB alone")]
        let (nonce, made) = made.expect("64 bytes can be sealed");
        tag.copy_from_slice(made.as_ref());
        WrappedSecret { id, root_key: self.id, nonce: HexBytes(*nonce.as_ref()), sealed }
    }

    fn unwrap(&self, wrapped: &WrappedSecret) -> Option<DataSecret> {
        let mut bytes = Zeroizing::new(wrapped.sealed.0);
        let nonce = Nonce::from(&wrapped.nonce.0);
        let opened = self.key.open_in_place(nonce, bound_to(&wrapped.id.0), bytes.as_mut_slice());
        let text = std::str::from_utf8(opened.ok()?).ok()?;
        DataSecret::from_revealed(Zeroizing::new(text.to_owned()))
    }
}

fn bound_to(id: &[u8; 16]) -> Aad<Vec<u8>> {
    Aad::from([SEALED_AS, id].concat())
}

/// Makes a file with a new key that only its owner may read; returns what to tell people.
///
/// # Errors
/// There is a file already, which is left as it is, or it cannot be made.
pub(crate) fn make_file(path: &Path) -> anyhow::Result<String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let key: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(random::bytes());
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(key.as_slice()))));
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.with_context(|| {
        format!("cannot make {} (a key that exists is never overwritten)", path.display())
    })?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| format!("cannot write {}", path.display()))?;
    let id = RootKey::new(&key, path)?.id;
    Ok(format!(
        "made {} with the root key {id}\n\n\
         Keep a copy of it where this machine's disks are not: without it nothing on the encrypted \
         volumes can be read, by anybody.\n\n  fabric-agent serve {FLAG} {}\n",
        path.display(),
        path.display()
    ))
}
