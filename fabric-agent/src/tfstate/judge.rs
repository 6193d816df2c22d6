//! What a file says that is to be a state. Strangers' bytes: read in one pass, nothing of it kept but
//! a few words.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use weft_model::Problem;

use super::record::Facts;

/// Longer words are nobody's lineage and no version.
const MAX_WORD: usize = 128;

/// # Errors
/// It is not JSON, or nothing that Terraform writes.
pub(crate) fn judge(content: impl Read) -> Result<Facts, Problem> {
    let head: Head = serde_json::from_reader(content)
        .map_err(|error| no_state(format!("it cannot be read as JSON: {error}")))?;
    let Head { version, terraform_version, serial, lineage, resources, encrypted_data } = head;
    let encrypted = encrypted_data.is_some();
    if version.is_none() && !encrypted {
        return Err(no_state("it has no \"version\"".to_owned()));
    }
    let word = |word: Option<String>| word.filter(|word| word.len() <= MAX_WORD);
    Ok(Facts {
        serial,
        lineage: word(lineage),
        terraform_version: word(terraform_version),
        resources: (!encrypted).then(|| resources.unwrap_or_default().0),
    })
}

fn no_state(why: String) -> Problem {
    Problem::invalid("state", "this is no Terraform state, and was not stored").evidence(why)
}

/// The state with another serial, all else to the letter; as it is where it has none to see.
///
/// # Errors
/// It is no state.
pub(crate) fn with_serial(content: &[u8], serial: u64) -> Result<Vec<u8>, Problem> {
    let failed = |error: serde_json::Error| no_state(error.to_string());
    let mut fields: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(content).map_err(failed)?;
    // What is encrypted has its serial inside, too.
    if fields.contains_key("encrypted_data") || !fields.contains_key("serial") {
        return Ok(content.to_owned());
    }
    let serial = RawValue::from_string(serial.to_string()).map_err(failed)?;
    fields.insert("serial".to_owned(), serial);
    serde_json::to_vec(&fields).map_err(failed)
}

#[derive(Deserialize)]
struct Head {
    version: Option<u64>,
    terraform_version: Option<String>,
    serial: Option<u64>,
    lineage: Option<String>,
    resources: Option<Managed>,
    /// What OpenTofu writes that encrypts states.
    encrypted_data: Option<IgnoredAny>,
}

/// How many objects a list of resources has that are managed. Counted as it is read: a list may be as
/// long as the file.
#[derive(Default)]
struct Managed(u64);

impl<'de> Deserialize<'de> for Managed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sum;
        impl<'de> Visitor<'de> for Sum {
            type Value = Managed;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of resources")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Managed, A::Error> {
                let mut sum = 0;
                while let Some(Resource(count)) = seq.next_element()? {
                    sum += count;
                }
                Ok(Managed(sum))
            }
        }
        deserializer.deserialize_seq(Sum)
    }
}

/// How many objects a resource has, 0 for data.
struct Resource(u64);

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Resource;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a resource")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resource, A::Error> {
                let (mut managed, mut count) = (true, 0);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "mode" => managed = map.next_value::<String>()? == "managed",
                        "instances" => count = map.next_value::<Length>()?.0,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Resource(if managed { count } else { 0 }))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// How long a list is.
struct Length(u64);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = Length;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Length, A::Error> {
                let mut length = 0;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    length += 1;
                }
                Ok(Length(length))
            }
        }
        deserializer.deserialize_seq(Count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{"version":4,"terraform_version":"1.11.4","serial":7,"lineage":"3f-1",
        "outputs":{"n":{"value":12345678901234567890.125,"type":"number"}},
        "resources":[
          {"mode":"data","type":"weft_image","instances":[{},{}]},
          {"mode":"managed","type":"weft_instance","instances":[{"attributes":{}},{}]},
          {"mode":"managed","type":"weft_vpc","instances":[{}]}],
        "check_results":null}"#;

    #[test]
    fn a_state_says_what_it_is() {
        let facts = judge(STATE.as_bytes()).unwrap();
        let want = Facts {
            serial: Some(7),
            lineage: Some("3f-1".to_owned()),
            terraform_version: Some("1.11.4".to_owned()),
            resources: Some(3),
        };
        assert_eq!(facts, want);
        let encrypted = r#"{"serial":1,"lineage":"a","meta":{},"encrypted_data":"AA==","encryption_version":"v0"}"#;
        let facts = judge(encrypted.as_bytes()).unwrap();
        assert_eq!((facts.serial, facts.resources), (Some(1), None));
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for bad in [
            "",
            "{",
            "null",
            "[]",
            "{}",
            "<html></html>",
            r#"{"version":"4"}"#,
            r#"{"serial":1}"#,
            r#"{"version":4}{}"#,
            r#"{"version":4,"resources":{}}"#,
            r#"{"version":4,"resources":[{"instances":7}]}"#,
            "\u{feff}{\"version\":4}",
        ] {
            assert!(judge(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = format!("{{\"version\":4,\"outputs\":{}", "[".repeat(1 << 20));
        assert!(judge(deep.as_bytes()).is_err());
    }

    #[test]
    fn another_serial_changes_nothing_else() {
        let changed = with_serial(STATE.as_bytes(), 99).unwrap();
        let text = String::from_utf8(changed.clone()).unwrap();
        assert!(text.contains("12345678901234567890.125"), "{text}");
        let facts = judge(changed.as_slice()).unwrap();
        assert_eq!(facts, Facts { serial: Some(99), ..judge(STATE.as_bytes()).unwrap() });
        let encrypted = br#"{"serial":1,"encrypted_data":"AA=="}"#;
        assert_eq!(with_serial(encrypted, 99).unwrap(), encrypted);
    }
}
