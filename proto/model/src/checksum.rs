//! What a file is known by before it is here.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, InvalidDigest};

/// The SHA-512 of a file; shown as 128 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha512([u8; 64]);

/// Text that is not 128 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a SHA-512 digest: expected 128 hexadecimal digits")]
pub struct InvalidSha512(String);

impl Sha512 {
    /// From the 64 bytes of a SHA-512.
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Sha512 {
    type Err = InvalidSha512;
    fn from_str(text: &str) -> Result<Self, InvalidSha512> {
        let digits = text.strip_prefix("sha512:").unwrap_or(text);
        let mut bytes = [0; 64];
        hex::decode_to_slice(digits.to_ascii_lowercase(), &mut bytes)
            .map_err(|_| InvalidSha512(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

crate::net::serde_as_text!(Sha512);

/// A file's digest as its publisher gives it. Blobs go by their SHA-256 alone; Debian tells the
/// SHA-512 of its images and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// The one that its blob goes by.
    Sha256(Digest),
    /// One that says nothing of its blob's name.
    Sha512(Sha512),
}

impl Checksum {
    /// What the file goes by until it is a blob: its SHA-256, or the first half of its SHA-512,
    /// which is no file's SHA-256.
    pub fn stand_in(&self) -> Digest {
        match self {
            Self::Sha256(digest) => *digest,
            Self::Sha512(Sha512(bytes)) => {
                let (half, _) = bytes.split_at(32);
                let mut digest = [0; 32];
                digest.copy_from_slice(half);
                Digest::from_bytes(digest)
            }
        }
    }

    /// From the two fields of a message, of which exactly one has to be given.
    ///
    /// # Errors
    /// [`InvalidChecksum`].
    pub fn from_fields(sha256: &str, sha512: &str) -> Result<Self, InvalidChecksum> {
        match (sha256, sha512) {
            (sha256, "") => Ok(Self::Sha256(sha256.parse()?)),
            ("", sha512) => Ok(Self::Sha512(sha512.parse()?)),
            _ => Err(InvalidChecksum::Two),
        }
    }

    /// The two fields of a message.
    pub fn to_fields(self) -> (String, String) {
        match self {
            Self::Sha256(digest) => (digest.to_string(), String::new()),
            Self::Sha512(digest) => (String::new(), digest.to_string()),
        }
    }
}

/// Fields that do not say one digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChecksum {
    /// No SHA-256.
    #[error(transparent)]
    Sha256(#[from] InvalidDigest),
    /// No SHA-512.
    #[error(transparent)]
    Sha512(#[from] InvalidSha512),
    /// Only one can be checked.
    #[error("both a SHA-256 and a SHA-512 are given: keep one")]
    Two,
}

impl From<Digest> for Checksum {
    fn from(digest: Digest) -> Self {
        Self::Sha256(digest)
    }
}

impl From<Sha512> for Checksum {
    fn from(digest: Sha512) -> Self {
        Self::Sha512(digest)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Sha512(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_fields_is_a_checksum_and_comes_back() {
        let (sha256, sha512) = ("aB".repeat(32), "cD".repeat(64));
        for (one, other) in [(sha256.as_str(), ""), ("", sha512.as_str())] {
            let found = Checksum::from_fields(one, other).unwrap();
            assert_eq!(found.to_fields(), (one.to_lowercase(), other.to_lowercase()));
        }
        let said =
            |one: &str, other: &str| Checksum::from_fields(one, other).unwrap_err().to_string();
        assert!(said(&sha256, &sha512).contains("keep one"));
        assert!(said("", "").contains("64 hexadecimal"));
        assert!(said("", &sha256).contains("128 hexadecimal"));
    }

    #[test]
    fn a_sha_512_stands_in_by_its_first_half() {
        let text = format!("{}{}", "ab".repeat(32), "cd".repeat(32));
        let found = Checksum::Sha512(text.parse().unwrap());
        assert_eq!(found.stand_in().to_string(), "ab".repeat(32));
    }
}
