//! The provider's own arguments: what each says, and what comes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use tfplugin::{Attribute, Diagnostic, Diagnostics, Schema, Type, Validator, Value, timeouts};
use weft_model::Tags;
use weft_proto::client::{Credentials, DEFAULT_ENDPOINT, Endpoint, Pem};

use crate::agent::{PlanChecks, Settings};
use crate::environment::{self, Environment, Setting};
use crate::{catalog, checks, problem};

/// For one unary request, unless `request_timeout` says otherwise.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// What a duration has to look like.
const DURATION_RULE: &str = "must be a duration such as \"30s\" or \"2m\"";

/// The provider's schema.
pub(crate) fn schema() -> Schema {
    let text = |name: &'static str, text: &str, default: &str| {
        Attribute::string(name, environment::described(name, text, default))
    };
    Schema::new(
        "Virtual machines, images, keys, networks and security groups on your own Linux hosts, served by \
         a `fabric-agent`. The words are EC2's. Begin with the guide [First instance](guides/first-instance.md).",
    )
    .attribute(text(
        "endpoint",
        "Where the agent listens: `unix://` and a path, or `https://` and a name for an agent on another machine.",
        &format!("`{DEFAULT_ENDPOINT}`"),
    ))
    .attribute(text(
        "ca_cert",
        "The certificate of the CA that signed the agent's, for `https://`: a path, or PEM text. `fabric-agent init` makes these files.",
        "none",
    ))
    .attribute(text(
        "client_cert",
        "This client's certificate, for `https://`: a path, or PEM text.",
        "none",
    ))
    .attribute(
        text("client_key", "The private key of `client_cert`: a path, or PEM text.", "none")
            .sensitive(),
    )
    .attribute(
        Attribute::map(
            "default_tags",
            Type::String,
            environment::described(
                "default_tags",
                "Tags of everything that can have some; a resource's own tag of the same key goes before it. In the environment `key=value`, with commas between them.",
                "none",
            ),
        )
        .validate(checks::tags()),
    )
    .attribute(
        text(
            "plan_checks",
            "What a plan does about what it cannot know for sure, such as an instance type that does not exist yet: `off`, `warn` or `error`. While applying it is an error in any case.",
            "`warn`",
        )
        .validate(Validator::one_of(PlanChecks::WORDS)),
    )
    .attribute(
        text(
            "request_timeout",
            "How long one request to the agent may take, its retries included. Waiting for an instance and uploading an image are no such requests.",
            &format!("`{}s`", REQUEST_TIMEOUT.as_secs()),
        )
        .validate(Validator::pattern(DURATION_RULE, |text| timeouts::parse(text).is_some())),
    )
    .attribute(text(
        "image_catalog",
        "A TOML file with images for `data.weft_image_alias`, which go before those that are built in.",
        "none",
    ))
}

/// What `config` and, where it says nothing, the environment want.
pub(crate) fn read(environment: &Environment, config: &Value) -> Result<Settings, Diagnostics> {
    let setting = |name| environment.setting(config, name);
    let endpoint = match setting("endpoint") {
        Setting::Unknown => None,
        known => Some(endpoint(known.text().unwrap_or(DEFAULT_ENDPOINT), known, config)?),
    };
    let endpoint = match (endpoint, credentials(environment, config)) {
        (Some(endpoint), Some(credentials)) => Some(endpoint.with(credentials)),
        _ => None,
    };
    let image_catalog = match setting("image_catalog") {
        Setting::Unknown => catalog::Own::Unknown,
        Setting::Configured(path) | Setting::Variable(path) => catalog::Own::File(path.into()),
        Setting::Unset => catalog::Own::default(),
    };
    Ok(Settings {
        endpoint,
        default_tags: default_tags(environment, config)?,
        plan_checks: plan_checks(setting("plan_checks"))?,
        request_timeout: request_timeout(setting("request_timeout"))?,
        image_catalog,
    })
}

fn endpoint(text: &str, from: Setting<'_>, config: &Value) -> Result<Endpoint, Diagnostic> {
    text.parse().map_err(|problem| match from {
        Setting::Variable(value) => {
            environment::invalid("endpoint", value, &format!("is refused: {problem}"))
        }
        _ => problem::diagnostic("Invalid endpoint", &problem, &schema(), config),
    })
}

/// `None`: not all are known yet.
fn credentials(environment: &Environment, config: &Value) -> Option<Credentials> {
    let pem = |name| match environment.setting(config, name) {
        Setting::Unknown => None,
        known => Some(known.text().map(Pem::new)),
    };
    Some(Credentials {
        ca_cert: pem("ca_cert")?,
        client_cert: pem("client_cert")?,
        client_key: pem("client_key")?,
    })
}

/// `None`: not known yet. The map as a whole is the configuration's or the environment's.
fn default_tags(
    environment: &Environment,
    config: &Value,
) -> Result<Option<BTreeMap<String, String>>, Diagnostics> {
    let configured = config.get("default_tags");
    if !configured.is_null() {
        return match configured.is_wholly_known() {
            true => Ok(Some(configured.to()?)),
            false => Ok(None),
        };
    }
    let Some(text) = environment.variable("default_tags") else {
        return Ok(Some(BTreeMap::new()));
    };
    let tags = environment::tags(text)?;
    match Tags::parse(tags.clone()) {
        Ok(_) => Ok(Some(tags)),
        Err(problem) => {
            let why = format!("is refused: {problem}");
            Err(environment::invalid("default_tags", text, &why).into())
        }
    }
}

fn plan_checks(setting: Setting<'_>) -> Result<PlanChecks, Diagnostic> {
    let Some(word) = setting.text() else { return Ok(PlanChecks::default()) };
    PlanChecks::parse(word).ok_or_else(|| {
        let rule = format!("must be one of {}", PlanChecks::WORDS.join(", "));
        refused("plan_checks", setting, word, &rule)
    })
}

fn request_timeout(setting: Setting<'_>) -> Result<Duration, Diagnostic> {
    let Some(text) = setting.text() else { return Ok(REQUEST_TIMEOUT) };
    timeouts::parse(text).ok_or_else(|| refused("request_timeout", setting, text, DURATION_RULE))
}

/// That `value` breaks the rule of the argument called `name`, wherever it comes from.
fn refused(name: &str, from: Setting<'_>, value: &str, rule: &str) -> Diagnostic {
    match from {
        Setting::Variable(_) => environment::invalid(name, value, rule),
        _ => Diagnostic::error(format!("Invalid value for {name}"))
            .cause(format!("\"{value}\" is not accepted"))
            .remedy(format!("The value {rule}"))
            .at(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<const N: usize>(values: [(&'static str, &str); N]) -> Environment {
        Environment::new(values.map(|(name, value)| (name, value.to_owned())))
    }

    fn config<const N: usize>(values: [(&str, Value); N]) -> Value {
        schema().complete(&Value::object(values))
    }

    #[test]
    fn what_the_configuration_leaves_out_the_environment_says() {
        let environment = environment([
            ("endpoint", "unix:///e"),
            ("default_tags", "team=blue,stage=test"),
            ("plan_checks", "error"),
            ("request_timeout", "2m"),
            ("image_catalog", "names.toml"),
        ]);
        let from_it = read(&environment, &config([])).unwrap();
        assert_eq!(from_it.endpoint.unwrap().to_string(), "unix:///e");
        assert_eq!(from_it.default_tags.unwrap()["stage"], "test");
        assert_eq!(from_it.plan_checks, PlanChecks::Error);
        assert_eq!(from_it.request_timeout, Duration::from_secs(120));

        let tags = Value::object([("team", "red")]);
        let configured = config([
            ("endpoint", "unix:///c".into()),
            ("default_tags", tags),
            ("plan_checks", "off".into()),
            ("request_timeout", "5s".into()),
        ]);
        let from_both = read(&environment, &configured).unwrap();
        assert_eq!(from_both.endpoint.unwrap().to_string(), "unix:///c");
        assert_eq!(from_both.default_tags.unwrap().into_values().collect::<Vec<_>>(), ["red"]);
        assert_eq!(from_both.plan_checks, PlanChecks::Off);
        assert_eq!(from_both.request_timeout, Duration::from_secs(5));
    }

    #[test]
    fn what_is_not_known_yet_is_not_taken_from_the_environment() {
        let environment = environment([("endpoint", "unix:///e"), ("default_tags", "a=b")]);
        let unknown = config([("endpoint", Value::Unknown), ("default_tags", Value::Unknown)]);
        let settings = read(&environment, &unknown).unwrap();
        assert!(settings.endpoint.is_none());
        assert!(settings.default_tags.is_none());
    }

    #[test]
    fn what_the_configuration_says_wrong_is_not_laid_on_a_variable() {
        for (name, value) in [("plan_checks", "warning"), ("request_timeout", "0s")] {
            let config = config([(name, value.into())]);
            let said = read(&environment([]), &config).unwrap_err().to_string();
            assert!(said.contains(&format!("Invalid value for {name}")), "{said}");
            assert!(!said.contains("WEFT_"), "{said}");
        }
    }

    #[test]
    fn a_variable_that_cannot_be_is_named() {
        #[rustfmt::skip]
        let cases = [
            ("endpoint",        "http://x",  "WEFT_ENDPOINT is \"http://x\""),
            ("default_tags",    "team",      "WEFT_DEFAULT_TAGS is \"team\""),
            ("default_tags",    "=x",        "WEFT_DEFAULT_TAGS is \"=x\""),
            ("plan_checks",     "warning",   "it must be one of off, warn, error"),
            ("request_timeout", "soon",      "it must be a duration such as \"30s\""),
        ];
        for (name, value, part) in cases {
            let said = read(&environment([(name, value)]), &config([])).unwrap_err().to_string();
            assert!(said.contains(part), "{name} = {value}: {said}");
        }
    }
}
