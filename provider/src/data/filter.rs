//! What data sources look for objects by: name, pattern, tags.

use std::collections::BTreeMap;

use regex::Regex;
use tfplugin::{Attribute, ConvertError, Type, Validator, Value};
use weft_proto::v1;

use crate::checks;

/// What an object has to be like. The agent looks at names and tags, the pattern is ours.
#[derive(Debug)]
pub(super) struct Filter {
    name: String,
    pattern: Option<Regex>,
    tags: BTreeMap<String, String>,
}

impl Filter {
    /// `name`, `name_regex` and `tags` of a data source.
    pub(super) fn attributes() -> [Attribute; 3] {
        let pattern = Validator::new("must be a regular expression", |value| {
            let text = value.as_str().unwrap_or_default();
            Regex::new(text).map(drop).map_err(|error| error.to_string())
        });
        [
            Attribute::string("name", "By its whole name.").validate(checks::name()),
            Attribute::string(
                "name_regex",
                "By a regular expression that some part of its name matches.",
            )
            .validate(pattern),
            Attribute::map(
                "tags",
                Type::String,
                "By tags: it has all of these, from wherever they come.",
            )
            .validate(checks::tags()),
        ]
    }

    /// What `config` asks for; it was validated.
    pub(super) fn read(config: &Value) -> Result<Self, ConvertError> {
        Ok(Self {
            name: config.read::<Option<String>>("name")?.unwrap_or_default(),
            pattern: config.get("name_regex").as_str().and_then(|text| Regex::new(text).ok()),
            tags: config.read::<Option<BTreeMap<_, _>>>("tags")?.unwrap_or_default(),
        })
    }

    /// What the agent is asked.
    pub(super) fn request(&self) -> v1::ListRequest {
        v1::ListRequest { name: self.name.clone(), tags: self.tags.clone().into_iter().collect() }
    }

    /// Whether what the agent does not look at fits as well.
    pub(super) fn fits(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))
    }
}
