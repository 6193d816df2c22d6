//! Private state: bytes that the provider keeps beside the state, unseen by the user.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::diag::Diagnostic;

/// Named pieces of bytes. Terraform stores them with the resource and sends them back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Private(BTreeMap<String, Vec<u8>>);

impl Private {
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    pub fn get_str(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.get(key)?).ok()
    }

    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.insert(key.into(), value.into());
    }

    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// A JSON object of base64 texts; nothing at all when empty.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let entries: serde_json::Map<_, _> = self
            .0
            .iter()
            .map(|(key, bytes)| (key.clone(), STANDARD.encode(bytes).into()))
            .collect();
        serde_json::Value::Object(entries).to_string().into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Diagnostic> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let unreadable = || {
            Diagnostic::error("The private state cannot be read")
                .cause("It was not written by this provider")
                .remedy("Remove the resource from the state and import it again")
        };
        let entries: BTreeMap<String, String> =
            serde_json::from_slice(bytes).map_err(|_| unreadable())?;
        entries
            .into_iter()
            .map(|(key, text)| Ok((key, STANDARD.decode(text).map_err(|_| unreadable())?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_state_survives_the_wire() {
        let mut private = Private::default();
        assert!(private.encode().is_empty());
        private.set("digest", [0, 255]);
        assert_eq!(Private::decode(&private.encode()), Ok(private));
        assert!(Private::decode(b"legacy").is_err());
    }
}
