//! Which values of attributes are other objects.

use std::collections::{BTreeMap, BTreeSet};

use tfplugin::Value;

use super::hcl::Expression;

/// Attributes that name an object otherwise than by its id: theirs, the type, and its attribute.
const BY_NAME: [(&str, &str, &str); 2] =
    [("key_names", "weft_key_pair", "key_name"), ("instance_type", "weft_instance_type", "name")];

/// What values stand for.
#[derive(Debug, Default)]
pub(super) struct References {
    /// By id.
    ids: BTreeMap<String, Target>,
    /// By the attribute that names it, and its name.
    names: BTreeMap<(&'static str, String), Target>,
    /// What the attributes of each address refer to, by address.
    edges: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Clone)]
struct Target {
    address: String,
    expression: String,
}

impl References {
    /// The object at `address`, a resource or a data source.
    pub(super) fn add(&mut self, type_name: &str, address: &str, state: &Value) {
        let target = |attribute: &str| Target {
            address: address.to_owned(),
            expression: format!("{address}.{attribute}"),
        };
        for (attribute, of, named) in BY_NAME {
            if let Some(name) = state.get(named).as_str().filter(|_| of == type_name) {
                self.names.insert((attribute, name.to_owned()), target(named));
            }
        }
        // A VPC's own group is no resource, but an attribute.
        for attribute in ["default_security_group_id", "id"] {
            if let Some(id) = state.get(attribute).as_str() {
                self.ids.insert(id.to_owned(), target(attribute));
            }
        }
    }

    /// `value` of `attribute` of the object at `from`, with what it refers to as expressions;
    /// `None` where it is null.
    pub(super) fn resolve(
        &mut self,
        from: &str,
        attribute: &str,
        value: &Value,
    ) -> Option<Expression> {
        Some(match value {
            Value::Null | Value::Unknown => return None,
            Value::String(text) => match self.target(from, attribute, text) {
                Some(expression) => Expression::Code(expression),
                None => Expression::Literal(value.clone()),
            },
            Value::List(elements) => Expression::List(
                elements.iter().filter_map(|e| self.resolve(from, attribute, e)).collect(),
            ),
            Value::Map(entries) => Expression::Object(
                entries
                    .iter()
                    .filter_map(|(name, e)| Some((name.clone(), self.resolve(from, name, e)?)))
                    .collect(),
            ),
            other => Expression::Literal(other.clone()),
        })
    }

    /// Whether anything refers to `address`.
    pub(super) fn is_used(&self, address: &str) -> bool {
        self.edges.values().any(|to| to.contains(address))
    }

    fn target(&mut self, from: &str, attribute: &str, text: &str) -> Option<String> {
        let by_name = || {
            let (known, ..) = BY_NAME.into_iter().find(|(name, ..)| *name == attribute)?;
            self.names.get(&(known, text.to_owned()))
        };
        let target = self.ids.get(text).or_else(by_name)?.clone();
        // An instance may have been made from an image of itself: one of both stays an id.
        if self.reaches(&target.address, from) {
            return None;
        }
        self.edges.entry(from.to_owned()).or_default().insert(target.address);
        Some(target.expression)
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(address) = open.pop() {
            if address == to {
                return true;
            }
            if seen.insert(address) {
                open.extend(self.edges.get(address).into_iter().flatten().map(String::as_str));
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(entries: &[(&str, &str)]) -> Value {
        Value::object(entries.iter().copied())
    }

    fn code(text: &str) -> Option<Expression> {
        Some(Expression::Code(text.to_owned()))
    }

    #[test]
    fn ids_and_names_of_what_is_exported_are_expressions() {
        let mut references = References::default();
        let vpc = named(&[("id", "vpc-1"), ("default_security_group_id", "sg-1")]);
        references.add("weft_vpc", "weft_vpc.a", &vpc);
        let key = named(&[("id", "key-1"), ("key_name", "me")]);
        references.add("weft_key_pair", "weft_key_pair.me", &key);
        let mut of = |name: &str, value: &str| references.resolve("weft_x.y", name, &value.into());
        assert_eq!(of("vpc_id", "vpc-1"), code("weft_vpc.a.id"));
        assert_eq!(of("group", "sg-1"), code("weft_vpc.a.default_security_group_id"));
        assert_eq!(of("key_names", "me"), code("weft_key_pair.me.key_name"));
        assert_eq!(of("name", "me"), Some(Expression::Literal("me".into())));
        assert_eq!(of("vpc_id", "vpc-2"), Some(Expression::Literal("vpc-2".into())));
        assert!(references.is_used("weft_vpc.a") && !references.is_used("weft_vpc.b"));
    }

    #[test]
    fn nothing_refers_to_itself_in_a_circle() {
        let mut references = References::default();
        references.add("weft_image", "weft_image.a", &named(&[("id", "img-1")]));
        references.add("weft_instance", "weft_instance.a", &named(&[("id", "i-1")]));
        let to = |references: &mut References, from: &str, id: &str| {
            references.resolve(from, "x", &id.into())
        };
        assert_eq!(to(&mut references, "weft_image.a", "i-1"), code("weft_instance.a.id"));
        let back = to(&mut references, "weft_instance.a", "img-1");
        assert_eq!(back, Some(Expression::Literal("img-1".into())));
        let own = to(&mut references, "weft_image.a", "img-1");
        assert_eq!(own, Some(Expression::Literal("img-1".into())));
    }
}
