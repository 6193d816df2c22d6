//! What encrypts a volume: a secret of its own, which is stored and sent around only as it was wrapped,
//! that is encrypted and authenticated, by the root key of the host's operator.
//!
//! A volume and everything that is made of it, snapshots and volumes of those, have one secret: their
//! disks lie over common layers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::net::serde_as_text;

/// Bytes of a key, and of what a data secret is made from.
pub const KEY_BYTES: usize = 32;
/// What a wrapped secret is longer by than its text: the tag of AES-GCM.
const TAG_BYTES: usize = 16;

/// `N` bytes that are no secret, shown as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HexBytes<const N: usize>(pub [u8; N]);

/// Text that is not so many bytes in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has to be {0} hexadecimal digits")]
pub struct InvalidHexBytes(usize);

impl<const N: usize> fmt::Display for HexBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for HexBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> FromStr for HexBytes<N> {
    type Err = InvalidHexBytes;
    fn from_str(text: &str) -> Result<Self, InvalidHexBytes> {
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidHexBytes(2 * N))?;
        Ok(Self(bytes))
    }
}

/// Which data secret it is. No secret itself.
pub type SecretId = HexBytes<16>;
/// Which root key it is. No secret itself.
pub type RootKeyId = HexBytes<8>;
/// The nonce of one wrapping.
pub type WrapNonce = HexBytes<12>;
/// A data secret's text as it was wrapped, and the tag.
pub type SealedText = HexBytes<{ 2 * KEY_BYTES + TAG_BYTES }>;

serde_as_text!(SecretId, RootKeyId, WrapNonce, SealedText);

/// A data secret as it is kept: only who has the root key can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedSecret {
    /// Which it is; authenticated with it.
    pub id: SecretId,
    /// The root key that wrapped it.
    pub root_key: RootKeyId,
    /// Drawn for this wrapping.
    pub nonce: WrapNonce,
    /// The secret.
    pub sealed: SealedText,
}

/// A data secret in the clear: 64 hexadecimal digits, as QEMU takes a passphrase of LUKS as text only.
/// It is never stored, shown or sent, and its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct DataSecret(Zeroizing<String>);

impl DataSecret {
    /// Of random bytes.
    pub fn from_random(bytes: &Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(Zeroizing::new(hex::encode(bytes)))
    }

    /// From what [`Self::reveal`] gave; `None` where that is something else.
    pub fn from_revealed(text: Zeroizing<String>) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 2 * KEY_BYTES && text.bytes().all(is_digit)).then_some(Self(text))
    }

    /// The passphrase, for whoever opens a disk with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DataSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_text_that_is_never_shown() {
        let secret = DataSecret::from_random(&Zeroizing::new([0xa5; KEY_BYTES]));
        assert_eq!(secret.reveal(), "a5".repeat(32));
        assert_eq!(format!("{secret:?}"), "DataSecret(..)");
        let again = DataSecret::from_revealed(Zeroizing::new(secret.reveal().to_owned()));
        assert!(again.is_some_and(|again| again.reveal() == secret.reveal()));
        for bad in ["", "a5", &"A5".repeat(32), &"g5".repeat(32), &"a5".repeat(33)] {
            let read = DataSecret::from_revealed(Zeroizing::new((*bad).to_owned()));
            assert!(read.is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_kept_is_text_of_fixed_lengths() {
        let wrapped = WrappedSecret {
            id: HexBytes([1; 16]),
            root_key: HexBytes([2; 8]),
            nonce: HexBytes([3; 12]),
            sealed: HexBytes([4; 80]),
        };
        let json = serde_json::to_string(&wrapped).unwrap();
        assert!(json.contains(&format!("\"root_key\":\"{}\"", "02".repeat(8))), "{json}");
        assert_eq!(serde_json::from_str::<WrappedSecret>(&json).unwrap(), wrapped);
        let short = json.replace(&"02".repeat(8), "02");
        let error = serde_json::from_str::<WrappedSecret>(&short).unwrap_err().to_string();
        assert!(error.contains("it has to be 16 hexadecimal digits"), "{error}");
    }
}
