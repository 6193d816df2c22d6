//! Rust types from and to values: `value.read::<u32>("vcpus")?`, and [`object!`](crate::object)
//! for structs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cty::{Path, Value},
    diag::{Diagnostic, Diagnostics},
};

/// Why a value is not what the Rust type asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ConvertError {
    pub path: Path,
    pub problem: String,
}

impl ConvertError {
    pub fn new(problem: impl Into<String>) -> Self {
        Self { path: Path::root(), problem: problem.into() }
    }

    /// The same error, seen from one level further up.
    #[must_use]
    pub fn under(self, path: impl Into<Path>) -> Self {
        Self { path: path.into().join(&self.path), problem: self.problem }
    }

    fn expected(what: &str, value: &Value) -> Self {
        Self::new(format!("{what} is needed, this is {}", value.friendly()))
    }
}

impl From<ConvertError> for Diagnostic {
    fn from(error: ConvertError) -> Self {
        Diagnostic::error(format!("Invalid value for {}", error.path))
            .cause(error.problem)
            .at(error.path)
    }
}

impl From<ConvertError> for Diagnostics {
    fn from(error: ConvertError) -> Self {
        Diagnostic::from(error).into()
    }
}

/// A Rust type that can be read from a [`Value`].
pub trait FromValue: Sized {
    fn from_value(value: &Value) -> Result<Self, ConvertError>;
}

/// A Rust type that can be written as a [`Value`].
pub trait ToValue {
    fn to_value(&self) -> Value;
}

impl Value {
    /// The value at `path` as a Rust type. `Option<T>` takes null, [`Known<T>`] also unknown.
    pub fn read<T: FromValue>(&self, path: impl Into<Path>) -> Result<T, ConvertError> {
        let path = path.into();
        T::from_value(self.get(&path)).map_err(|error| error.under(path))
    }

    /// The whole value as a Rust type, mostly a struct made with `object!`.
    pub fn to<T: FromValue>(&self) -> Result<T, ConvertError> {
        T::from_value(self)
    }
}

/// A value that may still be unknown while planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<T> {
    Unknown,
    Null,
    Value(T),
}

impl<T> Known<T> {
    /// The value, if it is known and set.
    pub fn value(self) -> Option<T> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}

impl<T: FromValue> FromValue for Known<T> {
    fn from_value(value: &Value) -> Result<Self, ConvertError> {
        match value {
            Value::Unknown => Ok(Self::Unknown),
            Value::Null => Ok(Self::Null),
            value => T::from_value(value).map(Self::Value),
        }
    }
}

impl<T: ToValue> ToValue for Known<T> {
    fn to_value(&self) -> Value {
        match self {
            Self::Unknown => Value::Unknown,
            Self::Null => Value::Null,
            Self::Value(value) => value.to_value(),
        }
    }
}

impl FromValue for Value {
    fn from_value(value: &Value) -> Result<Self, ConvertError> {
        Ok(value.clone())
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Result<Self, ConvertError> {
        value.as_str().map(str::to_owned).ok_or_else(|| ConvertError::expected("a string", value))
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, ConvertError> {
        value.as_bool().ok_or_else(|| ConvertError::expected("a bool", value))
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Result<Self, ConvertError> {
        value.as_f64().ok_or_else(|| ConvertError::expected("a number", value))
    }
}

macro_rules! whole_numbers {
    ($($int:ty)*) => {$(
        impl FromValue for $int {
            fn from_value(value: &Value) -> Result<Self, ConvertError> {
                let Value::Number(number) = value else {
                    return Err(ConvertError::expected("a whole number", value));
                };
                let out_of_range = || {
                    let range = format!("{} to {}", <$int>::MIN, <$int>::MAX);
                    ConvertError::new(format!("{number} is not a whole number from {range}"))
                };
                // By text, since u64 reaches beyond i64.
                number.to_string().parse().map_err(|_| out_of_range())
            }
        }
        impl ToValue for $int {
            fn to_value(&self) -> Value {
                Value::from(*self)
            }
        }
    )*};
}
whole_numbers!(i64 i32 i16 i8 u64 u32 u16 u8);

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Result<Self, ConvertError> {
        if value.is_null() { Ok(None) } else { T::from_value(value).map(Some) }
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: &Value) -> Result<Self, ConvertError> {
        let elements = value.as_list().ok_or_else(|| ConvertError::expected("a list", value))?;
        elements
            .iter()
            .enumerate()
            .map(|(index, e)| {
                T::from_value(e).map_err(|error| error.under(Path::root().index(index)))
            })
            .collect()
    }
}

impl<T: FromValue + Ord> FromValue for BTreeSet<T> {
    fn from_value(value: &Value) -> Result<Self, ConvertError> {
        Vec::from_value(value).map(|elements: Vec<T>| elements.into_iter().collect())
    }
}

impl<T: FromValue> FromValue for BTreeMap<String, T> {
    fn from_value(value: &Value) -> Result<Self, ConvertError> {
        let entries = value.as_map().ok_or_else(|| ConvertError::expected("a map", value))?;
        let one = |(key, entry): (&String, &Value)| {
            let entry = T::from_value(entry).map_err(|error| error.under(Path::root().key(key)))?;
            Ok((key.clone(), entry))
        };
        entries.iter().map(one).collect()
    }
}

impl ToValue for Value {
    fn to_value(&self) -> Value {
        self.clone()
    }
}
impl ToValue for String {
    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}
impl ToValue for str {
    fn to_value(&self) -> Value {
        Value::from(self)
    }
}
impl ToValue for bool {
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }
}
impl ToValue for f64 {
    fn to_value(&self) -> Value {
        Value::from(*self)
    }
}
impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}
impl<T: ToValue> ToValue for Vec<T> {
    fn to_value(&self) -> Value {
        Value::List(self.iter().map(ToValue::to_value).collect())
    }
}
impl<T: ToValue> ToValue for BTreeSet<T> {
    fn to_value(&self) -> Value {
        Value::List(self.iter().map(ToValue::to_value).collect())
    }
}
impl<T: ToValue> ToValue for BTreeMap<String, T> {
    fn to_value(&self) -> Value {
        Value::Map(self.iter().map(|(key, entry)| (key.clone(), entry.to_value())).collect())
    }
}

/// Declares a struct that maps to an object of the same attribute names.
///
/// ```
/// tfplugin::object! {
///     /// A disk.
///     #[derive(Debug, Clone)]
///     pub struct Disk {
///         pub name: String,
///         pub size_gib: Option<u32>,
///     }
/// }
/// use tfplugin::{ToValue, Value};
/// let disk: Disk = Value::object([("name", "a")]).to().unwrap();
/// assert_eq!(disk.to_value().get("size_gib"), &Value::Null);
/// ```
#[macro_export]
macro_rules! object {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident : $ty:ty ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $( $(#[$field_meta])* $field_vis $field: $ty, )*
        }
        impl $crate::FromValue for $name {
            fn from_value(value: &$crate::Value) -> Result<Self, $crate::ConvertError> {
                if !matches!(value, $crate::Value::Map(_)) {
                    let problem = format!("an object is needed, this is {}", value.friendly());
                    return Err($crate::ConvertError::new(problem));
                }
                Ok(Self { $( $field: value.read(stringify!($field))?, )* })
            }
        }
        impl $crate::ToValue for $name {
            fn to_value(&self) -> $crate::Value {
                $crate::Value::object([
                    $( (stringify!($field), $crate::ToValue::to_value(&self.$field)), )*
                ])
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    object! {
        #[derive(Debug, PartialEq)]
        struct Nic {
            network: String,
            mtu: Option<u16>,
        }
    }
    object! {
        #[derive(Debug, PartialEq)]
        struct Guest {
            nics: Vec<Nic>,
            id: Known<String>,
        }
    }

    #[test]
    fn structs_survive_the_round_trip() {
        let nic = Nic { network: "net-1".into(), mtu: None };
        let guest = Guest { nics: vec![nic], id: Known::Unknown };
        assert_eq!(guest.to_value().to(), Ok(guest));
    }

    #[test]
    fn an_error_names_the_place_inside() {
        let nic = Value::object([("network", Value::from("a")), ("mtu", Value::from(70_000))]);
        let error = Value::object([("nics", vec![nic])]).to::<Guest>().unwrap_err();
        assert_eq!(error.to_string(), "nics[0].mtu: 70000 is not a whole number from 0 to 65535");
    }
}
