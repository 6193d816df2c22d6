//! Key pairs.

use weft_model::{KeyPairId, KeyPairSpec, Object, Problem};

use super::object::{object_from_wire, object_to_wire};
use super::{parse, required};
use crate::v1;

/// # Errors
/// A [`Problem`] at `key_name` or `public_key`.
pub fn key_pair_spec_from_wire(spec: Option<v1::KeyPairSpec>) -> Result<KeyPairSpec, Problem> {
    let v1::KeyPairSpec { key_name, public_key } = required("spec", spec)?;
    Ok(KeyPairSpec {
        key_name: parse("key_name", &key_name)?,
        public_key: parse("public_key", &public_key)?,
    })
}

/// The wire's form of `spec`.
pub fn key_pair_spec_to_wire(spec: KeyPairSpec) -> v1::KeyPairSpec {
    v1::KeyPairSpec {
        key_name: spec.key_name.to_string(),
        public_key: spec.public_key.line().to_owned(),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn key_pair_from_wire(wire: v1::KeyPair) -> Result<Object<KeyPairId, KeyPairSpec>, Problem> {
    // Fingerprint and type follow from the key; a client derives them again.
    let v1::KeyPair { metadata, spec, fingerprint_sha256: _, key_type: _ } = wire;
    object_from_wire(metadata, key_pair_spec_from_wire(spec)?)
}

/// The wire's form of `object`.
pub fn key_pair_to_wire(object: Object<KeyPairId, KeyPairSpec>) -> v1::KeyPair {
    let (metadata, spec) = object_to_wire(object);
    v1::KeyPair {
        fingerprint_sha256: spec.public_key.fingerprint_sha256(),
        key_type: spec.public_key.key_type(),
        metadata: Some(metadata),
        spec: Some(key_pair_spec_to_wire(spec)),
    }
}
