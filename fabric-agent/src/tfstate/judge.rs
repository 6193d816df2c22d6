//! What a file says that is to be a state. Strangers' bytes: read in one pass, nothing of it kept but
//! a few words.

use std::fmt;
use std::io::Read;
use std::ops::Range;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use weft_model::Problem;

use super::record::Facts;

/// Longer words are nobody's lineage and no version, nor are those that do something to a terminal.
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
    let word = |word: Option<String>| {
        word.filter(|word| {
            (1..=MAX_WORD).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_graphic())
        })
    };
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

/// Where in a state its serial stands; nowhere where there is none to see.
///
/// # Errors
/// It is no state.
pub(crate) fn place_of_serial(content: &str) -> Result<Option<Range<usize>>, Problem> {
    #[derive(Deserialize)]
    struct Serial<'a> {
        #[serde(borrow)]
        serial: Option<&'a RawValue>,
        /// What is encrypted has its serial inside, too.
        encrypted_data: Option<IgnoredAny>,
    }
    let fields: Serial<'_> =
        serde_json::from_str(content).map_err(|error| no_state(error.to_string()))?;
    let serial = fields.serial.filter(|_| fields.encrypted_data.is_none());
    Ok(serial.map(|serial| {
        // It is borrowed from the content.
        let begin = serial.get().as_ptr().addr() - content.as_ptr().addr();
        begin..begin + serial.get().len()
    }))
}

#[derive(Deserialize)]
#[serde(expecting = "a Terraform state")]
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
        for odd in ["\\u001b[2J", "\\u202e4.11.1", "", " ", &"1".repeat(200)] {
            let odd = STATE.replace("1.11.4", odd).replace("3f-1", odd);
            let facts = judge(odd.as_bytes()).unwrap();
            assert_eq!((facts.lineage, facts.terraform_version), (None, None), "{odd}");
        }
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
        let mut changed = STATE.replace("\"outputs\":{", "\"outputs\":{\"serial\":5,");
        let place = place_of_serial(&changed).unwrap().unwrap();
        assert_eq!(&changed[place.clone()], "7");
        changed.replace_range(place, "99");
        assert_eq!(changed.replace("\"serial\":5,", ""), STATE.replace(":7,", ":99,"));
        let facts = judge(changed.as_bytes()).unwrap();
        assert_eq!(facts, Facts { serial: Some(99), ..judge(STATE.as_bytes()).unwrap() });
        for without in [r#"{"serial":1,"encrypted_data":"AA=="}"#, r#"{"version":4}"#] {
            assert_eq!(place_of_serial(without).unwrap(), None);
        }
        assert!(place_of_serial("{").is_err());
    }
}
