//! Terraform's type system ("cty"): types, values, numbers, paths, and their wire forms.

pub(crate) mod json;
pub(crate) mod msgpack;
mod number;
mod path;
mod ty;
mod value;

pub use number::Number;
pub use path::{Path, Step};
pub use ty::{InvalidType, Type};
pub use value::Value;

/// Why bytes from Terraform are not a value of the type that the schema asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", at(path))]
pub struct DecodeError {
    pub path: Path,
    pub problem: String,
}

impl DecodeError {
    pub(crate) fn new(path: &Path, problem: impl Into<String>) -> Self {
        Self { path: path.clone(), problem: problem.into() }
    }
}

fn at(path: &Path) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}
