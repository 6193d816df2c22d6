//! The guest's SSH identity: made by the agent, so that clients know it before the first connection.

use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::public::PublicKey;
use ssh_key::{LineEnding, PrivateKey};
use weft_model::SshHostKey;

/// The key could not be written down.
#[derive(Debug, thiserror::Error)]
#[error("encode the SSH host key \"{comment}\"")]
pub struct HostKeyError {
    /// The comment it was to have.
    comment: String,
    #[source]
    source: ssh_key::Error,
}

/// The Ed25519 host key that belongs to `seed`, 32 random bytes that are as secret as the key.
/// `comment` is kept in the private file only.
///
/// # Errors
/// [`HostKeyError`] for a comment that OpenSSH's format cannot hold.
pub fn generate_host_key(seed: [u8; 32], comment: &str) -> Result<SshHostKey, HostKeyError> {
    let encode = || {
        let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
        let private = PrivateKey::new(pair, comment)?;
        let public = PublicKey::new(private.public_key().key_data().clone(), "");
        Ok(SshHostKey {
            private_pem: private.to_openssh(LineEnding::LF)?.to_string(),
            public_line: public.to_openssh()?.trim_end().to_owned(),
        })
    };
    encode().map_err(|source| HostKeyError { comment: comment.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_key_and_another_another() {
        let key = generate_host_key([7; 32], "i-1").unwrap();
        assert_eq!(key, generate_host_key([7; 32], "i-1").unwrap());
        let other = generate_host_key([8; 32], "i-1").unwrap();
        assert_ne!(key.private_pem, other.private_pem);
        assert_ne!(key.public_line, other.public_line);
    }

    #[test]
    fn both_halves_belong_together() {
        let key = generate_host_key([9; 32], "i-1").unwrap();
        assert!(key.private_pem.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
        assert_eq!(key.public_line.split(' ').count(), 2, "{}", key.public_line);
        let private = PrivateKey::from_openssh(&key.private_pem).unwrap();
        let public = PublicKey::from_openssh(&key.public_line).unwrap();
        assert_eq!(private.public_key().key_data(), public.key_data());
        assert_eq!(private.comment(), "i-1");
    }

    #[test]
    fn openssh_reads_the_private_key() {
        let key = generate_host_key([10; 32], "i-1").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, &key.private_pem).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let Ok(output) = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output() else {
            eprintln!("SKIPPED: no ssh-keygen on this machine");
            return;
        };
        let line = String::from_utf8(output.stdout).unwrap();
        assert!(line.starts_with(&key.public_line), "{line}");
    }
}
