//! Values: what a configuration, a plan or a state holds.

use std::{collections::BTreeMap, fmt};

use super::{Number, Path, Step};

/// A Terraform value. Lists, sets and tuples are `List`, maps and objects are `Map`:
/// the schema tells which.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Not set.
    #[default]
    Null,
    /// Not known before apply.
    Unknown,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

static NULL: Value = Value::Null;
static UNKNOWN: Value = Value::Unknown;

impl Value {
    pub fn object<N: Into<String>, V: Into<Value>>(
        attributes: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self::Map(attributes.into_iter().map(|(name, v)| (name.into(), v.into())).collect())
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Neither null nor unknown; parts of it may still be.
    pub fn is_set(&self) -> bool {
        !self.is_null() && !self.is_unknown()
    }

    /// Whether no part of it is unknown.
    pub fn is_wholly_known(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::List(elements) => elements.iter().all(Self::is_wholly_known),
            Self::Map(entries) => entries.values().all(Self::is_wholly_known),
            _ => true,
        }
    }

    /// The value at `path`. Null where there is nothing; unknown inside an unknown.
    pub fn get(&self, path: impl Into<Path>) -> &Value {
        let mut value = self;
        for step in path.into().steps() {
            value = match (step, value) {
                (_, Self::Unknown) => return &UNKNOWN,
                (Step::Attribute(name) | Step::Key(name), Self::Map(entries)) => {
                    entries.get(name).unwrap_or(&NULL)
                }
                (Step::Index(index), Self::List(elements)) => elements.get(*index).unwrap_or(&NULL),
                _ => return &NULL,
            };
        }
        value
    }

    /// Puts `new` at `path`, making objects on the way where there is nothing.
    /// Does nothing where the path leads through something else, or past the end of a list.
    pub fn set(&mut self, path: impl Into<Path>, new: impl Into<Value>) {
        let mut value = self;
        for step in path.into().steps() {
            value = match (step, value) {
                (Step::Attribute(name) | Step::Key(name), value @ (Self::Null | Self::Unknown)) => {
                    *value = Self::Map(BTreeMap::new());
                    let Self::Map(entries) = value else { return };
                    entries.entry(name.clone()).or_default()
                }
                (Step::Attribute(name) | Step::Key(name), Self::Map(entries)) => {
                    entries.entry(name.clone()).or_default()
                }
                (Step::Index(index), Self::List(elements)) => match elements.get_mut(*index) {
                    Some(element) => element,
                    None => return,
                },
                _ => return,
            };
        }
        *value = new.into();
    }

    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(value) = self { Some(value) } else { None }
    }

    pub fn as_i64(&self) -> Option<i64> {
        if let Self::Number(number) = self { number.as_i64() } else { None }
    }

    pub fn as_f64(&self) -> Option<f64> {
        if let Self::Number(number) = self { number.as_f64() } else { None }
    }

    pub fn as_list(&self) -> Option<&[Value]> {
        if let Self::List(elements) = self { Some(elements) } else { None }
    }

    pub fn as_map(&self) -> Option<&BTreeMap<String, Value>> {
        if let Self::Map(entries) = self { Some(entries) } else { None }
    }

    /// For messages: what this is called.
    pub fn friendly(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Unknown => "unknown",
            Self::Bool(_) => "a bool",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "an object or map",
        }
    }
}

/// As HCL would write it, on one line.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Unknown => f.write_str("(known after apply)"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::String(text) => write!(f, "{text:?}"),
            Self::List(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(entries) if entries.is_empty() => f.write_str("{}"),
            Self::Map(entries) => {
                f.write_str("{ ")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key} = {value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str(" }")
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}
impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(Number::Float(value))
    }
}
impl From<Number> for Value {
    fn from(value: Number) -> Self {
        Self::Number(value)
    }
}
macro_rules! from_small_int {
    ($($int:ty)*) => {$(
        impl From<$int> for Value {
            fn from(value: $int) -> Self {
                Self::Number(Number::Int(i64::from(value)))
            }
        }
    )*};
}
from_small_int!(i64 i32 i16 i8 u32 u16 u8);
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Number(match i64::try_from(value) {
            Ok(int) => Number::Int(int),
            Err(_above_i64) => Number::Decimal(value.to_string()),
        })
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(elements: Vec<T>) -> Self {
        Self::List(elements.into_iter().map(Into::into).collect())
    }
}
impl<T: Into<Value>> From<BTreeMap<String, T>> for Value {
    fn from(entries: BTreeMap<String, T>) -> Self {
        Self::Map(entries.into_iter().map(|(key, v)| (key, v.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_makes_the_objects_on_its_way() {
        let mut value = Value::Null;
        value.set("root_volume.size_gib", 8);
        assert_eq!(value.get("root_volume.size_gib").as_i64(), Some(8));
        assert_eq!(value.to_string(), "{ root_volume = { size_gib = 8 } }");
    }

    #[test]
    fn inside_an_unknown_everything_is_unknown() {
        let value = Value::object([("a", Value::Unknown)]);
        assert!(value.get("a.b[3]").is_unknown());
        assert!(value.get("b.c").is_null());
        assert!(!value.is_wholly_known());
    }
}
