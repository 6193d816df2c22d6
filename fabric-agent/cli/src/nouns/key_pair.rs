//! Key pairs.

use serde_json::{Value, json};
use weft_model::{KeyPairId, KeyPairSpec, Object, Timestamp};

use super::{Noun, common_details, common_json};
use crate::output::age;

impl Noun for Object<KeyPairId, KeyPairSpec> {
    const HEADER: &'static [&'static str] = &["ID", "NAME", "TYPE", "FINGERPRINT", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.spec.key_name.to_string(),
            self.spec.public_key.key_type(),
            self.spec.public_key.fingerprint_sha256(),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", self.spec.key_name.to_string()),
            ("type", self.spec.public_key.key_type()),
            ("fingerprint", self.spec.public_key.fingerprint_sha256()),
            ("public key", self.spec.public_key.line().to_owned()),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let specific = json!({
            "key_name": self.spec.key_name,
            "key_type": self.spec.public_key.key_type(),
            "fingerprint_sha256": self.spec.public_key.fingerprint_sha256(),
            "public_key": self.spec.public_key,
        });
        common_json(self, specific)
    }
}
