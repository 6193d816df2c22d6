//! Checks against a schema: of a configuration, and of the schema itself.

use super::{Attribute, Kind, Mode, Nesting, Schema};
use crate::{
    cty::{Path, Value},
    diag::{Diagnostic, Diagnostics},
};

/// A schema that Terraform would refuse or that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema of {schema} is wrong at {path}: {problem}")]
pub struct InvalidSchema {
    pub schema: String,
    pub path: Path,
    pub problem: &'static str,
}

pub(super) fn validate(schema: &Schema, config: &Value) -> Diagnostics {
    let mut out = Diagnostics::new();
    object(&schema.attributes, config, &Path::root(), &mut out);
    out
}

fn object(attributes: &[Attribute], value: &Value, path: &Path, out: &mut Diagnostics) {
    let Value::Map(entries) = value else { return };
    for attribute in attributes {
        let value = entries.get(&attribute.name).unwrap_or(&Value::Null);
        one(attribute, value, &path.attribute(&attribute.name), out);
    }
}

fn one(attribute: &Attribute, value: &Value, path: &Path, out: &mut Diagnostics) {
    if value.is_null() {
        // Terraform asks that it is written, not that it has a value.
        if attribute.mode == Mode::Required {
            out.push(null(path, "It is required: give it a value"));
        }
        return;
    }
    if attribute.mode == Mode::Computed {
        out.push(
            Diagnostic::error(format!("{path} is read-only"))
                .cause("only the provider sets it")
                .remedy("Remove it from the configuration")
                .at(path),
        );
        return;
    }
    if let Some(message) = &attribute.deprecated {
        out.push(Diagnostic::warning(format!("{path} is deprecated")).cause(message).at(path));
    }
    if value.is_unknown() {
        return;
    }
    let secret = attribute.sensitive || attribute.write_only;
    for validator in &attribute.validators {
        if let Err(cause) = validator.run(value) {
            let cause = if secret { "the value is not accepted".to_owned() } else { cause };
            out.push(
                Diagnostic::error(format!("Invalid value for {path}"))
                    .cause(cause)
                    .remedy(format!("The value {}", validator.rule()))
                    .at(path),
            );
        }
    }
    no_nulls_inside(attribute.nesting(), value, path, out);
    let Kind::Nested(nesting, inner) = &attribute.kind else { return };
    match (nesting, value) {
        (Nesting::Single, value) => object(inner, value, path, out),
        // An index into a set would point at another element than the one written there.
        (Nesting::Set, Value::List(elements)) => {
            for element in elements {
                object(inner, element, path, out);
            }
        }
        (_, Value::List(elements)) => {
            for (index, element) in elements.iter().enumerate() {
                object(inner, element, &path.index(index), out);
            }
        }
        (_, Value::Map(entries)) => {
            for (key, element) in entries {
                object(inner, element, &path.key(key), out);
            }
        }
        _ => {}
    }
}

/// A collection's elements are values: none is left out by being null.
fn no_nulls_inside(nesting: Nesting, value: &Value, path: &Path, out: &mut Diagnostics) {
    const REMEDY: &str =
        "Give the element a value or leave it out; `if v != null` in a for expression does";
    match (nesting, value) {
        // They have no place of their own.
        (Nesting::Set, Value::List(elements)) if elements.iter().any(Value::is_null) => {
            let summary = format!("{path} has an element that is null");
            out.push(Diagnostic::error(summary).remedy(REMEDY).at(path));
        }
        (Nesting::List, Value::List(elements)) => {
            for (index, _) in elements.iter().enumerate().filter(|(_, e)| e.is_null()) {
                out.push(null(&path.index(index), REMEDY));
            }
        }
        (Nesting::Map, Value::Map(entries)) => {
            for (key, _) in entries.iter().filter(|(_, e)| e.is_null()) {
                out.push(null(&path.key(key), REMEDY));
            }
        }
        _ => {}
    }
}

fn null(path: &Path, remedy: &str) -> Diagnostic {
    Diagnostic::error(format!("{path} is null")).remedy(remedy).at(path)
}

/// Rules of `internal/configs/configschema/internal_validate.go` and of this library.
pub(super) fn check(schema: &Schema, name: &str) -> Result<(), InvalidSchema> {
    attributes(&schema.attributes, &Path::root()).map_err(|(path, problem)| InvalidSchema {
        schema: name.to_owned(),
        path,
        problem,
    })
}

/// Names that Terraform keeps for itself at the top of a resource.
const RESERVED: [&str; 7] =
    ["connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioner"];

fn attributes(list: &[Attribute], path: &Path) -> Result<(), (Path, &'static str)> {
    for (index, attribute) in list.iter().enumerate() {
        let place = path.attribute(&attribute.name);
        let wrong = |problem| Err((place.clone(), problem));
        let valid = attribute.name.bytes().enumerate().all(|(at, byte)| {
            byte == b'_' && at > 0 || byte.is_ascii_lowercase() || at > 0 && byte.is_ascii_digit()
        });
        if attribute.name.is_empty() || !valid {
            return wrong("a name is made of lowercase letters, digits and underscores");
        }
        if path.is_empty() && RESERVED.contains(&attribute.name.as_str()) {
            return wrong("the name is reserved by Terraform");
        }
        if list[..index].iter().any(|other| other.name == attribute.name) {
            return wrong("there are two attributes of this name");
        }
        if attribute.description.is_empty() {
            return wrong("it has no description");
        }
        if attribute.write_only && attribute.mode.is_computed() {
            return wrong("a write-only attribute cannot be computed or have a default");
        }
        if attribute.write_only && attribute.replace {
            return wrong("a write-only attribute has no prior value that could differ");
        }
        if attribute.mode == Mode::Computed && !attribute.validators.is_empty() {
            return wrong("a computed attribute is not set by the user, so nothing is validated");
        }
        if let Some(default) = &attribute.default {
            if crate::cty::msgpack::encode(default, &attribute.ty()).is_err() || !default.is_set() {
                return wrong("the default does not fit the type");
            }
            if attribute.validators.iter().any(|validator| validator.run(default).is_err()) {
                return wrong("the default breaks the attribute's own rule");
            }
        }
        if let Kind::Nested(nesting, inner) = &attribute.kind {
            if *nesting == Nesting::Set && inner.iter().any(|attribute| attribute.write_only) {
                return wrong("a set cannot hold write-only attributes");
            }
            attributes(inner, &place)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Type, Validator};

    fn schema() -> Schema {
        Schema::new("x")
            .attribute(
                Attribute::string("mode", "m").validate(Validator::one_of(["nat", "bridge"])),
            )
            .attribute(Attribute::set("keys", Type::String, "k").validate(Validator::length(1..=2)))
            .attribute(Attribute::nested(
                "nics",
                Nesting::List,
                "n",
                [Attribute::number("mtu", "m").required().validate(Validator::range(68..=9000))],
            ))
            .attribute(Attribute::string("old", "o").deprecated("Use mode."))
    }

    #[test]
    fn each_broken_rule_is_told_with_its_place_and_remedy() {
        let config = Value::object([
            ("mode", Value::from("magic")),
            ("keys", Value::List(vec![])),
            (
                "nics",
                Value::from(vec![Value::object([("mtu", 1500)]), Value::object([("mtu", 7)])]),
            ),
            ("old", Value::from("x")),
        ]);
        let said: Vec<_> = schema().validate(&config).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "error: Invalid value for mode (at mode): \"magic\" is not accepted. \
                 The value must be one of \"nat\", \"bridge\".",
                "error: Invalid value for keys (at keys): The length is 0. \
                 The value must have a length from 1 to 2.",
                "error: Invalid value for nics[1].mtu (at nics[1].mtu): 7 is not accepted. \
                 The value must be a whole number from 68 to 9000.",
                "warning: old is deprecated (at old): Use mode.",
            ]
        );
    }

    #[test]
    fn unknown_and_null_values_are_not_validated() {
        let config = Value::object([("mode", Value::Unknown), ("nics", Value::Null)]);
        assert!(schema().validate(&config).is_empty());
    }

    #[test]
    fn what_has_to_have_a_value_is_refused_when_it_is_null() {
        let schema = Schema::new("x")
            .attribute(Attribute::string("name", "n").required())
            .attribute(Attribute::map("tags", Type::String, "t"))
            .attribute(Attribute::set("keys", Type::String, "k"))
            .attribute(Attribute::list("servers", Type::String, "s"))
            .attribute(Attribute::object(
                "disk",
                "d",
                [Attribute::number("size", "s").required(), Attribute::string("pool", "p")],
            ))
            .attribute(Attribute::nested(
                "nics",
                Nesting::List,
                "n",
                [Attribute::number("mtu", "m").required()],
            ));
        let config = Value::object([
            ("name", Value::Null),
            ("tags", Value::object([("a", Value::Null), ("b", "c".into()), ("d", Value::Unknown)])),
            ("keys", Value::List(vec![Value::Null])),
            ("servers", Value::List(vec!["x".into(), Value::Null])),
            ("disk", Value::object([("size", Value::Null), ("pool", Value::Null)])),
            ("nics", Value::List(vec![Value::Null, Value::object([("mtu", Value::Null)])])),
        ]);
        let said = schema.validate(&config);
        let said: Vec<_> = said.iter().map(|d| d.summary.as_str()).collect();
        #[rustfmt::skip]
        assert_eq!(said, [
            "name is null", "tags[\"a\"] is null", "keys has an element that is null", "servers[1] is null",
            "disk.size is null", "nics[0] is null", "nics[1].mtu is null",
        ]);
    }

    #[test]
    fn what_only_the_provider_sets_is_refused_where_it_is_set() {
        let id = || Attribute::string("id", "i").computed();
        let schema =
            Schema::new("x").attribute(id()).attribute(Attribute::object("o", "o", [id()]));
        let inner = Value::object([("id", Value::Unknown)]);
        let said = schema.validate(&Value::object([("id", "x".into()), ("o", inner)]));
        let said: Vec<_> = said.iter().map(|d| d.summary.as_str()).collect();
        assert_eq!(said, ["id is read-only", "o.id is read-only"]);
    }

    #[test]
    fn a_secret_that_is_refused_is_not_shown() {
        let schema = Schema::new("x").attribute(
            Attribute::string("key", "k").sensitive().validate(Validator::one_of(["a"])),
        );
        let said = schema.validate(&Value::object([("key", "hush")]));
        assert!(said.iter().any(|d| d.to_string().contains("not accepted")));
        assert!(!said.iter().any(|d| d.to_string().contains("hush")));
    }

    #[test]
    fn a_schema_that_contradicts_itself_is_refused() {
        let cases = [
            Attribute::string("Name", "n"),
            Attribute::string("count", "c"),
            Attribute::string("a", ""),
            Attribute::string("secret", "s").default("x").write_only(),
            Attribute::number("size", "s").default("big"),
            Attribute::number("size", "s").default(0).validate(Validator::range(1..=2)),
        ];
        for attribute in cases {
            let schema = Schema::new("x").attribute(attribute.clone());
            assert!(schema.check("x").is_err(), "{attribute:?}");
        }
        assert_eq!(schema().check("x"), Ok(()));
    }
}
