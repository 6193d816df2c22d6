//! What data sources and lists look for objects by: name, pattern, tags.

use std::collections::BTreeMap;

use regex::Regex;
use tfplugin::{Attribute, ConvertError, Type, Validator, Value};
use weft_proto::v1;

use crate::checks;

/// What an object has to be like. The agent looks at names and tags, the pattern is ours.
#[derive(Debug)]
pub(crate) struct Filter {
    name: String,
    pattern: Option<Regex>,
    tags: BTreeMap<String, String>,
}

impl Filter {
    /// `name`, `name_regex` and `tags` of a data source.
    pub(super) fn attributes() -> [Attribute; 3] {
        [Self::by_name("name"), Self::by_pattern(), Self::by_tags()]
    }

    /// The attribute `name`, whose value is a whole name.
    pub(crate) fn by_name(name: &str) -> Attribute {
        Attribute::string(name, "By its whole name.").validate(checks::name())
    }

    /// `name_regex`.
    pub(crate) fn by_pattern() -> Attribute {
        let pattern = Validator::new("must be a regular expression", |value| {
            let text = value.as_str().unwrap_or_default();
            Regex::new(text).map(drop).map_err(|error| error.to_string())
        });
        Attribute::string(
            "name_regex",
            "By a regular expression that some part of its name matches.",
        )
        .validate(pattern)
    }

    /// `tags`.
    pub(crate) fn by_tags() -> Attribute {
        Attribute::map(
            "tags",
            Type::String,
            "By tags: it has all of these, from wherever they come.",
        )
        .validate(checks::tags())
    }

    /// What `config` asks for; it was validated.
    pub(super) fn read(config: &Value) -> Result<Self, ConvertError> {
        Self::named(config, Some("name"))
    }

    /// As [`Self::read`], where names are called `name`, if there are any.
    pub(crate) fn named(config: &Value, name: Option<&str>) -> Result<Self, ConvertError> {
        let name = name.and_then(|name| config.get(name).as_str());
        Ok(Self {
            name: name.unwrap_or_default().to_owned(),
            pattern: config.get("name_regex").as_str().and_then(|text| Regex::new(text).ok()),
            tags: config.read::<Option<BTreeMap<_, _>>>("tags")?.unwrap_or_default(),
        })
    }

    /// What the agent is asked.
    pub(crate) fn request(&self) -> v1::ListRequest {
        v1::ListRequest { name: self.name.clone(), tags: self.tags.clone().into_iter().collect() }
    }

    /// Whether what the agent does not look at fits as well.
    pub(super) fn fits(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))
    }

    /// Whether a resource's state fits in every way: not all of the agent's lists look at names
    /// and tags.
    pub(crate) fn fits_state(&self, name: Option<&str>, state: &Value) -> bool {
        let name = name.and_then(|name| state.get(name).as_str()).unwrap_or_default();
        let tags = state.get("tags_all").as_map();
        let has = |(key, value): (&String, &String)| {
            tags.and_then(|tags| tags.get(key)?.as_str()) == Some(value.as_str())
        };
        (self.name.is_empty() || self.name == name) && self.fits(name) && self.tags.iter().all(has)
    }
}
