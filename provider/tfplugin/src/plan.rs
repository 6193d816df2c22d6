//! The rules by which a plan is made. Pure: no clock, no I/O, no provider code.
//!
//! | configuration | attribute | on creation | on update |
//! |---|---|---|---|
//! | set or unknown | any | the configuration | the configuration |
//! | unset | with default | the default | the default |
//! | unset | computed | unknown | **the prior value** |
//! | unset | otherwise | null | null |
//! | any | write-only | null | null |
//!
//! The same holds inside nested attributes; elements of lists are matched with their prior self
//! by index, of maps by key, and of sets where nothing that is configured differs. So an
//! attribute of a resource never changes unless its own configuration does; what does change
//! along is said by `Resource::modify_plan`.

use std::collections::BTreeMap;

use crate::{
    cty::{Path, Value},
    schema::{Attribute, Kind, Mode, Nesting, Schema},
};

/// The planned state for `config`, before the resource's own hook. `prior` is null on creation.
pub fn propose(schema: &Schema, config: &Value, prior: &Value) -> Value {
    let prior = prior.is_set().then_some(prior);
    schema.ty().normalise(&propose_object(&schema.attributes, config, prior))
}

fn propose_object(attributes: &[Attribute], config: &Value, prior: Option<&Value>) -> Value {
    if !config.is_set() {
        return config.clone();
    }
    let one = |attribute: &Attribute| {
        let name = Path::root().attribute(&attribute.name);
        let prior = prior.map(|prior| prior.get(&name));
        (attribute.name.clone(), propose_attribute(attribute, config.get(&name), prior))
    };
    Value::Map(attributes.iter().map(one).collect())
}

fn propose_attribute(attribute: &Attribute, config: &Value, prior: Option<&Value>) -> Value {
    if attribute.write_only {
        return Value::Null;
    }
    if config.is_null() {
        return match (&attribute.default, prior) {
            (Some(default), _) => complete(attribute, default),
            (None, Some(prior)) if attribute.mode.is_computed() => prior.clone(),
            (None, None) if attribute.mode.is_computed() => Value::Unknown,
            _ => Value::Null,
        };
    }
    let Kind::Nested(nesting, inner) = &attribute.kind else {
        return config.clone();
    };
    let prior = prior.filter(|prior| prior.is_set());
    match (nesting, config) {
        (Nesting::Single, config) => propose_object(inner, config, prior),
        (Nesting::Set, Value::List(elements)) => propose_set(inner, elements, prior),
        (_, Value::List(elements)) => {
            let old = prior.and_then(Value::as_list).unwrap_or_default();
            let one = |(index, element): (usize, &Value)| {
                let old = old.get(index).filter(|old| old.is_set());
                propose_object(inner, element, old)
            };
            Value::List(elements.iter().enumerate().map(one).collect())
        }
        (_, Value::Map(entries)) => {
            let old = prior.and_then(Value::as_map);
            let one = |(key, element): (&String, &Value)| {
                let old = old.and_then(|old| old.get(key)).filter(|old| old.is_set());
                (key.clone(), propose_object(inner, element, old))
            };
            Value::Map(entries.iter().map(one).collect())
        }
        _ => config.clone(),
    }
}

fn propose_set(inner: &[Attribute], elements: &[Value], prior: Option<&Value>) -> Value {
    let mut unmatched: Vec<&Value> =
        prior.and_then(Value::as_list).unwrap_or_default().iter().collect();
    let mut one = |element: &Value| {
        // An element is its prior self where planning it from there changes nothing.
        let same =
            unmatched.iter().position(|old| propose_object(inner, element, Some(old)) == **old);
        match same {
            Some(position) => unmatched.swap_remove(position).clone(),
            None => propose_object(inner, element, None),
        }
    };
    Value::List(elements.iter().map(&mut one).collect())
}

fn complete(attribute: &Attribute, default: &Value) -> Value {
    let name = attribute.name.as_str();
    let whole = Schema::default()
        .attribute(attribute.clone())
        .complete(&Value::object([(name, default.clone())]));
    whole.get(name).clone()
}

/// `config` with defaults filled in, for settings and data sources, which have no plan.
pub fn with_defaults(schema: &Schema, config: &Value) -> Value {
    let Value::Map(entries) = config else { return config.clone() };
    let mut entries = entries.clone();
    for attribute in &schema.attributes {
        let entry = entries.entry(attribute.name.clone()).or_default();
        if let (true, Some(default)) = (entry.is_null(), &attribute.default) {
            *entry = complete(attribute, default);
        }
    }
    Value::Map(entries)
}

/// A configuration for which `state` is what is there: without what only the provider sets, what
/// is a default, and what is deprecated. An attribute that the provider sets where the user does
/// not is in it, since what it would be another time is not known.
pub fn configuration(schema: &Schema, state: &Value) -> Value {
    configured(&schema.attributes, state)
}

fn configured(attributes: &[Attribute], state: &Value) -> Value {
    if !state.is_set() {
        return Value::Null;
    }
    let one = |attribute: &Attribute| {
        let value = state.get(Path::root().attribute(&attribute.name));
        let is_default = attribute
            .default
            .as_ref()
            .is_some_and(|default| complete(attribute, default) == *value);
        let left_out = attribute.mode == Mode::Computed
            || attribute.write_only
            || attribute.deprecated.is_some()
            || is_default;
        let value = match &attribute.kind {
            _ if left_out => Value::Null,
            Kind::Leaf(_) => value.clone(),
            Kind::Nested(Nesting::Single, inner) => configured(inner, value),
            Kind::Nested(_, inner) => match value {
                Value::List(elements) => {
                    Value::List(elements.iter().map(|e| configured(inner, e)).collect())
                }
                Value::Map(entries) => Value::Map(
                    entries.iter().map(|(key, e)| (key.clone(), configured(inner, e))).collect(),
                ),
                other => other.clone(),
            },
        };
        (attribute.name.clone(), value)
    };
    Value::Map(attributes.iter().map(one).collect())
}

/// `value` as it may be stored: every attribute there, sets sorted, write-only attributes null.
pub fn storable(schema: &Schema, value: &Value) -> Value {
    if value.is_null() {
        return Value::Null;
    }
    schema.complete(&without_write_only(&schema.attributes, value))
}

fn without_write_only(attributes: &[Attribute], value: &Value) -> Value {
    let Value::Map(entries) = value else { return value.clone() };
    let mut entries = entries.clone();
    for attribute in attributes {
        let Some(entry) = entries.get_mut(&attribute.name) else { continue };
        if attribute.write_only {
            *entry = Value::Null;
        } else if let Kind::Nested(nesting, inner) = &attribute.kind {
            *entry = match (nesting, &*entry) {
                (Nesting::Single, entry) => without_write_only(inner, entry),
                (_, Value::List(elements)) => {
                    Value::List(elements.iter().map(|e| without_write_only(inner, e)).collect())
                }
                (_, Value::Map(elements)) => Value::Map(
                    elements
                        .iter()
                        .map(|(k, e)| (k.clone(), without_write_only(inner, e)))
                        .collect(),
                ),
                (_, other) => other.clone(),
            };
        }
    }
    Value::Map(entries)
}

/// `value` with null for everything unknown, for a state that is saved after an error.
pub fn known_part(value: &Value) -> Value {
    match value {
        Value::Unknown => Value::Null,
        Value::List(elements) => Value::List(elements.iter().map(known_part).collect()),
        Value::Map(entries) => {
            Value::Map(entries.iter().map(|(key, e)| (key.clone(), known_part(e))).collect())
        }
        known => known.clone(),
    }
}

/// Where write-only attributes are set in `config`.
pub fn write_only_set(schema: &Schema, config: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    visit(&schema.attributes, config, &Path::root(), &mut |attribute, value, path| {
        if attribute.write_only && !value.is_null() {
            found.push(path.clone());
        }
    });
    found
}

/// Where anything is unknown in `value`.
pub fn unknown_parts(schema: &Schema, value: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    visit(&schema.attributes, value, &Path::root(), &mut |attribute, value, path| {
        let whole = matches!(attribute.kind, Kind::Leaf(_)) && !value.is_wholly_known();
        if whole || value.is_unknown() {
            found.push(path.clone());
        }
    });
    found
}

/// Calls `see` for each attribute, nested ones included, of an object value.
fn visit(
    attributes: &[Attribute],
    value: &Value,
    path: &Path,
    see: &mut impl FnMut(&Attribute, &Value, &Path),
) {
    let Value::Map(entries) = value else { return };
    for attribute in attributes {
        let value = entries.get(&attribute.name).unwrap_or(&Value::Null);
        let path = path.attribute(&attribute.name);
        see(attribute, value, &path);
        let Kind::Nested(nesting, inner) = &attribute.kind else { continue };
        match (nesting, value) {
            (Nesting::Single, value) => visit(inner, value, &path, see),
            (_, Value::List(elements)) => {
                for (index, element) in elements.iter().enumerate() {
                    visit(inner, element, &path.index(index), see);
                }
            }
            (_, Value::Map(elements)) => {
                for (key, element) in elements {
                    visit(inner, element, &path.key(key), see);
                }
            }
            _ => {}
        }
    }
}

/// The attributes that force a replacement of `prior` by `plan`. An unknown value counts as
/// different. Paths end at collections, since their elements may exist on one side only.
pub fn replacements(schema: &Schema, prior: &Value, plan: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    if prior.is_set() && plan.is_set() {
        find_replacements(&schema.attributes, prior, plan, &Path::root(), &mut found);
    }
    found
}

fn find_replacements(
    list: &[Attribute],
    prior: &Value,
    plan: &Value,
    at: &Path,
    found: &mut Vec<Path>,
) {
    for attribute in list {
        let (path, name) = (at.attribute(&attribute.name), Path::root().attribute(&attribute.name));
        let (prior, plan) = (prior.get(&name), plan.get(&name));
        match &attribute.kind {
            _ if prior == plan => {}
            _ if attribute.replace => found.push(path),
            Kind::Nested(Nesting::Single, inner) if prior.is_set() && plan.is_set() => {
                find_replacements(inner, prior, plan, &path, found);
            }
            Kind::Nested(_, inner)
                if replacing_part(inner, prior) != replacing_part(inner, plan) =>
            {
                found.push(path);
            }
            Kind::Nested(..) | Kind::Leaf(_) => {}
        }
    }
}

/// What is left of the elements of a nested attribute when only replacing attributes are looked at.
fn replacing_part(inner: &[Attribute], value: &Value) -> Vec<(String, Value)> {
    let object = |value: &Value| {
        let mut kept = BTreeMap::new();
        for attribute in inner {
            let part = value.get(Path::root().attribute(&attribute.name));
            match &attribute.kind {
                _ if attribute.replace => drop(kept.insert(attribute.name.clone(), part.clone())),
                Kind::Nested(_, inner) => {
                    let parts = replacing_part(inner, part).into_iter().collect::<BTreeMap<_, _>>();
                    kept.insert(attribute.name.clone(), Value::Map(parts));
                }
                Kind::Leaf(_) => {}
            }
        }
        Value::Map(kept)
    };
    let empty = object(&Value::Null);
    let mut parts: Vec<_> = match value {
        Value::List(elements) => elements.iter().map(|e| (String::new(), object(e))).collect(),
        Value::Map(entries) if entries.values().all(|e| matches!(e, Value::Map(_))) => {
            entries.iter().map(|(key, e)| (key.clone(), object(e))).collect()
        }
        Value::Null => Vec::new(),
        value => vec![(String::new(), object(value))],
    };
    parts.retain(|(_, part)| *part != empty);
    parts.sort();
    parts
}

/// Where `plan` breaks Terraform's rule that what is configured is planned: it must equal the
/// configuration or, if that only differs in spelling, the prior value; and an attribute that
/// only the user sets stays unset.
///
/// Source: `AssertPlanValid` in `internal/plans/objchange/plan_valid.go`.
pub fn contradictions(schema: &Schema, config: &Value, prior: &Value, plan: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    contradicting(&schema.attributes, config, prior, plan, &Path::root(), &mut found);
    found
}

fn contradicting(
    attributes: &[Attribute],
    config: &Value,
    prior: &Value,
    plan: &Value,
    at: &Path,
    found: &mut Vec<Path>,
) {
    for attribute in attributes {
        let name = Path::root().attribute(&attribute.name);
        let path = at.attribute(&attribute.name);
        let (config, prior, plan) = (config.get(&name), prior.get(&name), plan.get(&name));
        let spelled_otherwise = !prior.is_null() && !config.is_null() && prior == plan;
        if attribute.write_only {
            if !plan.is_null() {
                found.push(path);
            }
            continue;
        }
        if config == plan || spelled_otherwise || config.is_null() && attribute.mode.is_computed() {
            continue;
        }
        let Kind::Nested(nesting, inner) = &attribute.kind else {
            found.push(path);
            continue;
        };
        match (nesting, config, plan) {
            (Nesting::Single, Value::Map(_), Value::Map(_)) => {
                contradicting(inner, config, prior, plan, &path, found);
            }
            (Nesting::Set, Value::List(elements), Value::List(planned))
                if elements.len() == planned.len() =>
            {
                let is_planned = |element: &Value| {
                    planned.iter().any(|planned| {
                        let mut inside = Vec::new();
                        contradicting(inner, element, planned, planned, &path, &mut inside);
                        // A planned element may not stand in for one that is configured otherwise.
                        inside.is_empty() && agrees(inner, element, planned)
                    })
                };
                if !elements.iter().all(is_planned) {
                    found.push(path);
                }
            }
            (Nesting::List, Value::List(elements), Value::List(planned))
                if elements.len() == planned.len() =>
            {
                for (index, (element, planned)) in elements.iter().zip(planned).enumerate() {
                    let (path, prior) = (path.index(index), prior.get(Path::root().index(index)));
                    contradicting(inner, element, prior, planned, &path, found);
                }
            }
            (Nesting::Map, Value::Map(elements), Value::Map(planned))
                if elements.keys().eq(planned.keys()) =>
            {
                for (key, element) in elements {
                    let (path, prior) = (path.key(key), prior.get(Path::root().key(key)));
                    contradicting(inner, element, prior, &planned[key], &path, found);
                }
            }
            _ => found.push(path),
        }
    }
}

/// Whether everything that is configured in a set's element is planned as it is.
fn agrees(inner: &[Attribute], config: &Value, plan: &Value) -> bool {
    inner.iter().filter(|attribute| !attribute.write_only).all(|attribute| {
        let name = Path::root().attribute(&attribute.name);
        let (config, plan) = (config.get(&name), plan.get(&name));
        let free =
            config.is_null() && attribute.mode != Mode::Required && attribute.mode.is_computed();
        free || config == plan
            || matches!(attribute.kind, Kind::Nested(..)) && config.is_set() && plan.is_set()
    })
}

#[cfg(test)]
mod tests;
