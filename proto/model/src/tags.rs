//! Key and value labels.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Problem;

/// Tags of one object; at most 50, as in EC2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, String>);

const MAX_TAGS: usize = 50;
const MAX_KEY_CHARS: usize = 128;
const MAX_VALUE_CHARS: usize = 256;

impl Tags {
    /// Judges `map` by EC2's limits: 50 tags, keys of 1 to 128 characters, values of up to 256.
    ///
    /// # Errors
    /// A [`Problem`] at `tags` that names the offending key.
    pub fn parse(map: impl IntoIterator<Item = (String, String)>) -> Result<Self, Problem> {
        let map: BTreeMap<_, _> = map.into_iter().collect();
        if map.len() > MAX_TAGS {
            return Err(Problem::invalid("tags", format!("{} tags", map.len()))
                .remedy(format!("use at most {MAX_TAGS}")));
        }
        for (key, value) in &map {
            if key.is_empty() || key.chars().count() > MAX_KEY_CHARS {
                return Err(Problem::invalid(
                    "tags",
                    format!("tag key \"{key}\" is empty or long"),
                )
                .remedy(format!("use 1 to {MAX_KEY_CHARS} characters")));
            }
            if value.chars().count() > MAX_VALUE_CHARS {
                return Err(Problem::invalid(
                    "tags",
                    format!("the value of tag \"{key}\" is long"),
                )
                .remedy(format!("use at most {MAX_VALUE_CHARS} characters")));
            }
        }
        Ok(Self(map))
    }

    /// Key and value, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether every tag of `wanted` is here with the same value.
    pub fn contains_all(&self, wanted: &Tags) -> bool {
        wanted.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    /// As a plain map.
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}
