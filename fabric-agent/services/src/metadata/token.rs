//! IMDSv2's tokens: an end and a proof, for one instance. Nothing is kept of them, so they
//! outlive the agent as long as its key does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use weft_model::InstanceId;

/// The longest life of a token in seconds: six hours, as in EC2.
pub(super) const MAX_SECONDS: u32 = 21_600;

/// Bytes of the end, a Unix time in seconds.
const END_BYTES: usize = 8;

/// What tokens are proved with. Secret.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

impl TokenKey {
    /// A key from 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// A token of `instance` that ends at `end`.
    pub(crate) fn issue(&self, instance: &InstanceId, end: i64) -> String {
        let mut token = end.to_be_bytes().to_vec();
        token.extend(self.proof(instance, end).finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whether `token` is one of `instance` and has not ended `now`.
    pub(super) fn admits(&self, instance: &InstanceId, token: &[u8], now: i64) -> bool {
        let Ok(token) = URL_SAFE_NO_PAD.decode(token) else { return false };
        let Some((end, proof)) = token.split_first_chunk::<END_BYTES>() else { return false };
        let end = i64::from_be_bytes(*end);
        // Takes the same time wherever it differs.
        self.proof(instance, end).verify_slice(proof).is_ok() && now < end
    }

    fn proof(&self, instance: &InstanceId, end: i64) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut proof = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of 32 bytes");
        proof.update(b"imds token\0");
        proof.update(instance.as_str().as_bytes());
        proof.update(&[0]);
        proof.update(&end.to_be_bytes());
        proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_instance_one_key_and_one_time() {
        let (key, other_key) = (TokenKey::new([1; 32]), TokenKey::new([2; 32]));
        let (one, other) = (InstanceId::from_random([1; 9]), InstanceId::from_random([2; 9]));
        let token = key.issue(&one, 100);
        assert!(key.admits(&one, token.as_bytes(), 99));
        assert!(!key.admits(&one, token.as_bytes(), 100), "it has ended");
        assert!(!key.admits(&other, token.as_bytes(), 99), "another guest's");
        assert!(!other_key.admits(&one, token.as_bytes(), 99), "another host's");
        let later = key.issue(&one, 200);
        let mixed = format!("{}{}", &later[..11], &token[11..]);
        for forged in ["", "AAAA", token.get(..20).unwrap(), &mixed, &format!("{token}A")] {
            assert!(!key.admits(&one, forged.as_bytes(), 99), "{forged}");
        }
        assert!(!key.admits(&one, b"\xff\xfe", 99));
    }
}
