//! The password of one run: it keeps other users of this machine away from a port that all may connect to.
//!
//! VNC authentication is weak (DES, 8 bytes), but nobody listens in on loopback without being root, and a
//! password of 40 bits that lives for one run is not guessed by trying.

use des::Des;
use des::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use weft_model::{Problem, Reason};

use crate::failure::Failure;

/// What nobody mistakes for something else; 32, so that each is as likely.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// As many bytes as VNC authentication looks at.
const LENGTH: usize = 8;
/// Bytes of a challenge and of what answers it: RFC 6143, section 7.2.2.
pub(super) const CHALLENGE: usize = 16;

/// It is shown to its owner, once; its `Debug` does not show it.
pub(super) struct Password([u8; LENGTH]);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Password {
    /// # Errors
    /// The kernel has no randomness.
    pub(super) fn random() -> Result<Self, Failure> {
        let bytes: [u8; LENGTH] = random()?;
        Ok(Self(bytes.map(|byte| LETTERS[usize::from(byte) % LETTERS.len()])))
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// Whether it was the key that `response` was made of `challenge` with.
    pub(super) fn answers(&self, challenge: &[u8; CHALLENGE], response: &[u8; CHALLENGE]) -> bool {
        // All bytes are compared: the time tells nothing of where they differ.
        let differ = |(one, other): (&u8, &u8)| one ^ other;
        self.response(challenge).iter().zip(response).map(differ).fold(0, |all, one| all | one) == 0
    }

    /// The challenge, encrypted: in the key the bits of each byte are mirrored (RFC 6143, errata 4951).
    fn response(&self, challenge: &[u8; CHALLENGE]) -> [u8; CHALLENGE] {
        let cipher = Des::new(&self.0.map(u8::reverse_bits).into());
        let mut response = *challenge;
        for block in response.chunks_exact_mut(LENGTH) {
            let mut bytes = [0; LENGTH];
            bytes.copy_from_slice(block);
            let mut encrypted = bytes.into();
            cipher.encrypt_block(&mut encrypted);
            block.copy_from_slice(&encrypted);
        }
        response
    }
}

/// # Errors
/// The kernel has no randomness.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(Reason::Internal, "no randomness for a password").evidence(error.to_string())
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_answers_and_no_other() {
        let password = Password(*b"k3vw7abc");
        let challenge = std::array::from_fn(|n| u8::try_from(n).unwrap());
        // By `openssl enc -des-ecb`, with the key's bits mirrored.
        let right = [
            0xd5, 0xb5, 0x14, 0x2b, 0x6d, 0xa7, 0x53, 0xb9, 0xaf, 0x21, 0x27, 0x74, 0xe2, 0x54,
            0x61, 0x14,
        ];
        assert!(password.answers(&challenge, &right));
        for n in 0..CHALLENGE {
            let mut wrong = right;
            wrong[n] ^= 0x10;
            assert!(!password.answers(&challenge, &wrong));
        }
        assert!(!Password(*b"k3vw7abd").answers(&challenge, &right));
    }

    #[test]
    fn passwords_have_eight_letters_and_are_not_shown_by_accident() {
        let (one, other) = (Password::random().unwrap(), Password::random().unwrap());
        assert!(one.0.iter().all(|letter| LETTERS.contains(letter)));
        assert_ne!(one.text(), other.text());
        assert!(!format!("{one:?}").contains(&one.text()));
    }
}
