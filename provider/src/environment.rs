//! Settings that the configuration leaves out: what the environment says.
//!
//! Every argument of the provider has a variable. The configuration goes before it, even where its
//! value is not known yet; an empty variable counts as none.

use std::collections::BTreeMap;

use tfplugin::{Diagnostic, Value};
use weft_proto::client::{
    CA_CERT_VARIABLE, CLIENT_CERT_VARIABLE, CLIENT_KEY_VARIABLE, ENDPOINT_VARIABLE,
};

use crate::catalog;

/// Each argument and its variable.
const VARIABLES: [(&str, &str); 8] = [
    ("endpoint", ENDPOINT_VARIABLE),
    ("ca_cert", CA_CERT_VARIABLE),
    ("client_cert", CLIENT_CERT_VARIABLE),
    ("client_key", CLIENT_KEY_VARIABLE),
    ("default_tags", "WEFT_DEFAULT_TAGS"),
    ("plan_checks", "WEFT_PLAN_CHECKS"),
    ("request_timeout", "WEFT_REQUEST_TIMEOUT"),
    ("image_catalog", catalog::VARIABLE),
];

/// The variables that are set, by the argument that they stand for. It has no `Debug`: one may be a
/// private key.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<&'static str, String>);

/// Where an argument's value comes from.
#[derive(Clone, Copy)]
pub(crate) enum Setting<'a> {
    /// Of the configuration, and not known before the apply.
    Unknown,
    Configured(&'a str),
    /// Of the environment.
    Variable(&'a str),
    Unset,
}

impl<'a> Setting<'a> {
    /// The text, wherever it comes from.
    pub(crate) fn text(self) -> Option<&'a str> {
        match self {
            Self::Configured(text) | Self::Variable(text) => Some(text),
            Self::Unknown | Self::Unset => None,
        }
    }
}

impl Environment {
    /// Of this process.
    pub(crate) fn of_the_process() -> Self {
        let read = |(argument, variable)| Some((argument, std::env::var(variable).ok()?));
        Self::new(VARIABLES.into_iter().filter_map(read))
    }

    /// With the values of these arguments.
    pub(crate) fn new(values: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self(values.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// What the argument called `name` is, a text.
    pub(crate) fn setting<'a>(&'a self, config: &'a Value, name: &str) -> Setting<'a> {
        match config.get(name) {
            Value::Unknown => Setting::Unknown,
            Value::String(text) => Setting::Configured(text),
            _ => self.variable(name).map_or(Setting::Unset, Setting::Variable),
        }
    }

    /// What the environment says about the argument called `name`.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The variable of the argument called `name`.
fn variable(name: &str) -> &'static str {
    let found = VARIABLES.into_iter().find(|(argument, _)| *argument == name);
    found.map_or("", |(_, variable)| variable)
}

/// `text` about an argument, with what it is where it is not set: its variable, else `default`.
pub(crate) fn described(name: &str, text: &str, default: &str) -> String {
    format!("{text} Default: the environment variable `{}`, else {default}.", variable(name))
}

/// That the variable of the argument called `name` has a value that cannot be.
pub(crate) fn invalid(name: &str, value: &str, rule: &str) -> Diagnostic {
    let variable = variable(name);
    Diagnostic::error(format!("Invalid {variable}"))
        .cause(format!("the environment variable {variable} is \"{value}\"; it {rule}"))
        .remedy(format!("Correct it, unset it, or set {name} in the provider block"))
}

/// Tags as `WEFT_DEFAULT_TAGS` has them: `key=value`, with commas between them.
///
/// # Errors
/// A part that is none, or a key that comes twice.
pub(crate) fn tags(text: &str) -> Result<BTreeMap<String, String>, Diagnostic> {
    let wrong = |rule: &str| invalid("default_tags", text, rule);
    let mut tags = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            return Err(wrong("must be tags such as team=platform,stage=test"));
        };
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(wrong(&format!("must have the key {key:?} once")));
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_goes_before_the_environment() {
        let environment = Environment::new([("endpoint", "unix:///b".to_owned())]);
        let setting = |value: Value| {
            let config = Value::object([("endpoint", value)]);
            environment.setting(&config, "endpoint").text().map(str::to_owned)
        };
        assert_eq!(setting("unix:///a".into()).as_deref(), Some("unix:///a"));
        assert_eq!(setting(Value::Null).as_deref(), Some("unix:///b"));
        assert_eq!(setting(Value::Unknown), None);
    }

    #[test]
    fn an_empty_variable_counts_as_none() {
        let environment = Environment::new([("endpoint", String::new())]);
        assert!(environment.variable("endpoint").is_none());
    }

    #[test]
    fn tags_are_pairs_with_commas_between_them() {
        let read = |text| tags(text).map(|tags| tags.into_iter().collect::<Vec<_>>());
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read("b=2, a=x=y,").unwrap(), [pair("a", "x=y"), pair("b", "2")]);
        assert_eq!(read("a=").unwrap(), [pair("a", "")]);
        let said = read("a=1,b=2,a=3").unwrap_err();
        assert!(said.to_string().contains("must have the key \"a\" once"), "{said}");
        let said = read("a=1,nothing").unwrap_err();
        assert!(said.to_string().contains("WEFT_DEFAULT_TAGS is \"a=1,nothing\""), "{said}");
    }
}
