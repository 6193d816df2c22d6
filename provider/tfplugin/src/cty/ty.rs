//! Types and their JSON spelling, as schemas carry them on the wire.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::Value;

/// A Terraform type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Any type; the value says which.
    Dynamic,
    Bool,
    Number,
    String,
    List(Box<Type>),
    Set(Box<Type>),
    Map(Box<Type>),
    Object(BTreeMap<String, Type>),
    Tuple(Vec<Type>),
}

/// A type description that Terraform sent and that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a Terraform type")]
pub struct InvalidType(String);

impl Type {
    pub fn list(element: Type) -> Self {
        Self::List(Box::new(element))
    }

    pub fn set(element: Type) -> Self {
        Self::Set(Box::new(element))
    }

    pub fn map(element: Type) -> Self {
        Self::Map(Box::new(element))
    }

    pub fn object<N: Into<String>>(attributes: impl IntoIterator<Item = (N, Type)>) -> Self {
        Self::Object(attributes.into_iter().map(|(name, ty)| (name.into(), ty)).collect())
    }

    /// The JSON form, for example `["list","string"]`.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Dynamic => json!("dynamic"),
            Self::Bool => json!("bool"),
            Self::Number => json!("number"),
            Self::String => json!("string"),
            Self::List(element) => json!(["list", element.to_json()]),
            Self::Set(element) => json!(["set", element.to_json()]),
            Self::Map(element) => json!(["map", element.to_json()]),
            Self::Object(attributes) => {
                let attributes: serde_json::Map<_, _> =
                    attributes.iter().map(|(name, ty)| (name.clone(), ty.to_json())).collect();
                json!(["object", attributes])
            }
            Self::Tuple(elements) => {
                json!(["tuple", elements.iter().map(Self::to_json).collect::<Vec<_>>()])
            }
        }
    }

    pub fn from_json(json: &Json) -> Result<Self, InvalidType> {
        let invalid = || InvalidType(json.to_string());
        match json {
            Json::String(name) => match name.as_str() {
                "dynamic" => Ok(Self::Dynamic),
                "bool" => Ok(Self::Bool),
                "number" => Ok(Self::Number),
                "string" => Ok(Self::String),
                _ => Err(invalid()),
            },
            Json::Array(parts) => {
                let [Json::String(kind), of, ..] = parts.as_slice() else {
                    return Err(invalid());
                };
                match (kind.as_str(), of) {
                    ("list", of) => Ok(Self::list(Self::from_json(of)?)),
                    ("set", of) => Ok(Self::set(Self::from_json(of)?)),
                    ("map", of) => Ok(Self::map(Self::from_json(of)?)),
                    ("object", Json::Object(attributes)) => attributes
                        .iter()
                        .map(|(name, ty)| Ok((name.clone(), Self::from_json(ty)?)))
                        .collect::<Result<_, _>>()
                        .map(Self::Object),
                    ("tuple", Json::Array(elements)) => elements
                        .iter()
                        .map(Self::from_json)
                        .collect::<Result<_, _>>()
                        .map(Self::Tuple),
                    _ => Err(invalid()),
                }
            }
            _ => Err(invalid()),
        }
    }

    /// The type of a value that stands alone, for a dynamic position.
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null | Value::Unknown => Self::Dynamic,
            Value::Bool(_) => Self::Bool,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::String,
            Value::List(elements) => Self::Tuple(elements.iter().map(Self::of).collect()),
            Value::Map(entries) => {
                Self::Object(entries.iter().map(|(key, v)| (key.clone(), Self::of(v))).collect())
            }
        }
    }

    /// For messages: what a value of this type is called.
    pub fn friendly(&self) -> &'static str {
        match self {
            Self::Dynamic => "a value of any type",
            Self::Bool => "a bool",
            Self::Number => "a number",
            Self::String => "a string",
            Self::List(_) => "a list",
            Self::Set(_) => "a set",
            Self::Map(_) => "a map",
            Self::Object(_) => "an object",
            Self::Tuple(_) => "a tuple",
        }
    }

    /// `value` with every set in it sorted and free of duplicates, so that equal means equal.
    #[must_use]
    pub fn normalise(&self, value: &Value) -> Value {
        match (self, value) {
            (Self::List(of), Value::List(elements)) => {
                Value::List(elements.iter().map(|element| of.normalise(element)).collect())
            }
            (Self::Set(of), Value::List(elements)) => {
                let mut sorted: Vec<_> = elements.iter().map(|e| of.normalise(e)).collect();
                sorted.sort();
                // Two unknown elements may turn out to be different.
                sorted.dedup_by(|a, b| a == b && a.is_wholly_known());
                Value::List(sorted)
            }
            (Self::Tuple(types), Value::List(elements)) if types.len() == elements.len() => {
                Value::List(types.iter().zip(elements).map(|(ty, e)| ty.normalise(e)).collect())
            }
            (Self::Map(of), Value::Map(entries)) => {
                Value::Map(entries.iter().map(|(key, v)| (key.clone(), of.normalise(v))).collect())
            }
            (Self::Object(types), Value::Map(entries)) => Value::Map(
                entries
                    .iter()
                    .map(|(key, v)| {
                        (key.clone(), types.get(key).unwrap_or(&Type::Dynamic).normalise(v))
                    })
                    .collect(),
            ),
            _ => value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_back_from_json() {
        let ty = Type::object([
            ("names", Type::set(Type::String)),
            ("pair", Type::Tuple(vec![Type::Bool, Type::Number])),
            ("any", Type::map(Type::Dynamic)),
        ]);
        assert_eq!(Type::from_json(&ty.to_json()), Ok(ty));
        assert_eq!(Type::list(Type::String).to_json().to_string(), r#"["list","string"]"#);
        assert!(Type::from_json(&json!(["heap", "string"])).is_err());
    }

    #[test]
    fn sets_are_equal_in_any_order() {
        let ty = Type::set(Type::String);
        let (a, b) = (Value::from(vec!["x", "y"]), Value::from(vec!["y", "x", "y"]));
        assert_eq!(ty.normalise(&a), ty.normalise(&b));
        assert_ne!(Type::list(Type::String).normalise(&a), Type::list(Type::String).normalise(&b));
    }
}
