//! SSH public keys that are injected into guests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Name;

/// A registered public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPairSpec {
    /// What instances refer to; unique.
    pub key_name: Name,
    /// The key in OpenSSH's one-line form.
    pub public_key: PublicKey,
}

/// One line of an `authorized_keys` file that parsed: type, base64 and comment.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    line: String,
    key: ssh_key::PublicKey,
}

/// Text that is not one usable OpenSSH public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPublicKey {
    /// Nothing but space.
    #[error("the public key is empty")]
    Empty,
    /// Somebody gave away the secret half.
    #[error("this is a private key, which must stay where it was made; give the .pub file instead")]
    Private,
    /// Several lines.
    #[error("one key is wanted, but this has {0} lines")]
    SeveralLines(usize),
    /// The name of a key's file in place of what is in it.
    #[error(
        "this is the path of a key, and the key itself is wanted (in Terraform: file(\"{path}\"))"
    )]
    Path {
        /// The text.
        path: String,
    },
    /// OpenSSH's parser refuses it.
    #[error(
        "\"{start}\" is not an OpenSSH public key; expected one line such as \"ssh-ed25519 AAAA... comment\""
    )]
    Malformed {
        /// The first characters of the text, with three dots where there are more.
        start: String,
    },
    /// A key that no current SSH server accepts.
    #[error(
        "keys of type {0} are refused by current SSH servers; make one with ssh-keygen -t ed25519"
    )]
    Obsolete(String),
}

impl PublicKey {
    /// The line as given, without outer white space.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// `SHA256:` and base64 without padding, as `ssh-keygen -l` prints it.
    pub fn fingerprint_sha256(&self) -> String {
        self.key.fingerprint(ssh_key::HashAlg::Sha256).to_string()
    }

    /// The key's type, such as `ssh-ed25519`.
    pub fn key_type(&self) -> String {
        self.key.algorithm().to_string()
    }
}

impl FromStr for PublicKey {
    type Err = InvalidPublicKey;
    fn from_str(text: &str) -> Result<Self, InvalidPublicKey> {
        let line = text.trim();
        if line.is_empty() {
            return Err(InvalidPublicKey::Empty);
        }
        if line.contains("PRIVATE KEY-----") {
            return Err(InvalidPublicKey::Private);
        }
        let lines = line.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > 1 {
            return Err(InvalidPublicKey::SeveralLines(lines));
        }
        if line.ends_with(".pub") && !line.contains(char::is_whitespace) {
            return Err(InvalidPublicKey::Path { path: line.to_owned() });
        }
        let key = ssh_key::PublicKey::from_openssh(line).map_err(|_| {
            let mut start: String = line.chars().take(24).collect();
            if start.len() < line.len() {
                start.push_str("...");
            }
            InvalidPublicKey::Malformed { start }
        })?;
        if key.algorithm() == ssh_key::Algorithm::Dsa {
            return Err(InvalidPublicKey::Obsolete(key.algorithm().to_string()));
        }
        Ok(Self { line: line.to_owned(), key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint_sha256())
    }
}

crate::net::serde_as_text!(PublicKey);

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@home";

    #[test]
    fn a_key_keeps_its_line_and_has_a_fingerprint() {
        let key: PublicKey = format!(" {KEY}\n").parse().unwrap();
        assert_eq!(key.line(), KEY);
        assert_eq!(key.key_type(), "ssh-ed25519");
        assert!(key.fingerprint_sha256().starts_with("SHA256:"));
    }

    #[test]
    fn each_kind_of_wrong_text_has_its_own_words() {
        #[rustfmt::skip]
        let cases = [
            ("  \n",                                          "empty"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n",    "private key"),
            ("ssh-ed25519 AAAA",                              "not an OpenSSH public key"),
            ("hello",                                         "\"hello\" is not an OpenSSH public key"),
            ("~/.ssh/id_ed25519.pub",                         "file(\"~/.ssh/id_ed25519.pub\")"),
        ];
        for (text, want) in cases {
            let error = text.parse::<PublicKey>().unwrap_err().to_string();
            assert!(error.contains(want), "{text:?}: {error}");
        }
        assert!(format!("{KEY}\n{KEY}").parse::<PublicKey>().is_err());
    }
}
