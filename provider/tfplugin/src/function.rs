//! Provider functions: `provider::shop::price("disk", 8)` (Terraform 1.8 and later).
//!
//! Terraform calls them at any time, also before the provider is configured, and demands the same
//! result for the same arguments each time: they are pure.

use crate::{
    convert::FromValue,
    cty::{Path, Type, Value},
    proto::{self, StringKind},
    schema::InvalidSchema,
};

/// A function.
pub trait Function: Send + Sync + 'static {
    /// The name without the provider's, such as `price`.
    fn name(&self) -> &str;

    fn signature(&self) -> Signature;

    /// The result. The arguments fit the signature; null and unknown ones are only passed where
    /// their parameter allows them.
    ///
    /// # Errors
    /// What the user reads, below a line that names the function or the parameter.
    fn call(&self, arguments: &Arguments) -> Result<Value, FunctionError>;
}

/// What a function takes and gives.
#[derive(Debug, Clone)]
pub struct Signature {
    pub(crate) summary: String,
    pub(crate) description: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) variadic: Option<Parameter>,
    pub(crate) returns: Type,
    pub(crate) deprecated: Option<String>,
}

impl Signature {
    /// A function without parameters. `summary` is one line, `description` is Markdown.
    pub fn new(summary: impl Into<String>, description: impl Into<String>, returns: Type) -> Self {
        Self {
            summary: summary.into(),
            description: description.into(),
            parameters: Vec::new(),
            variadic: None,
            returns,
            deprecated: None,
        }
    }

    #[must_use]
    pub fn parameter(mut self, parameter: Parameter) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// Any number of further arguments.
    #[must_use]
    pub fn variadic(mut self, parameter: Parameter) -> Self {
        self.variadic = Some(parameter);
        self
    }

    /// The message says what to use instead.
    #[must_use]
    pub fn deprecated(mut self, message: impl Into<String>) -> Self {
        self.deprecated = Some(message.into());
        self
    }

    /// The parameter that the argument at `index` is for.
    pub(crate) fn at(&self, index: usize) -> Option<&Parameter> {
        self.parameters.get(index).or(self.variadic.as_ref())
    }

    pub(crate) fn check(&self, name: &str) -> Result<(), InvalidSchema> {
        let wrong = |at: &str, problem| {
            Err(InvalidSchema { schema: format!("function {name}"), path: at.into(), problem })
        };
        if !is_name(name) {
            return wrong(name, "a name is made of lowercase letters, digits and underscores");
        }
        if self.summary.is_empty() || self.description.is_empty() {
            return wrong(name, "it has no summary or no description");
        }
        let all: Vec<&Parameter> = self.parameters.iter().chain(&self.variadic).collect();
        for (index, parameter) in all.iter().enumerate() {
            if !is_name(&parameter.name) {
                let problem = "a name is made of lowercase letters, digits and underscores";
                return wrong(&parameter.name, problem);
            }
            if parameter.description.is_empty() {
                return wrong(&parameter.name, "it has no description");
            }
            if all[..index].iter().any(|other| other.name == parameter.name) {
                return wrong(&parameter.name, "there are two parameters of this name");
            }
        }
        Ok(())
    }

    pub(crate) fn to_proto(&self) -> proto::Function {
        proto::Function {
            parameters: self.parameters.iter().map(Parameter::to_proto).collect(),
            variadic_parameter: self.variadic.as_ref().map(Parameter::to_proto),
            r#return: Some(proto::function::Return { r#type: json(&self.returns) }),
            summary: self.summary.clone(),
            description: self.description.clone(),
            description_kind: StringKind::Markdown.into(),
            deprecation_message: self.deprecated.clone().unwrap_or_default(),
        }
    }
}

/// One parameter. Null and unknown arguments never reach the function unless it says so: Terraform
/// refuses a null, and the result for an unknown is unknown.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) description: String,
    pub(crate) null: bool,
    pub(crate) unknown: bool,
}

impl Parameter {
    /// `description` is Markdown.
    pub fn new(name: impl Into<String>, ty: Type, description: impl Into<String>) -> Self {
        let (name, description) = (name.into(), description.into());
        Self { name, ty, description, null: false, unknown: false }
    }

    #[must_use]
    pub fn allow_null(mut self) -> Self {
        self.null = true;
        self
    }

    /// Also values parts of which are unknown.
    #[must_use]
    pub fn allow_unknown(mut self) -> Self {
        self.unknown = true;
        self
    }

    fn to_proto(&self) -> proto::function::Parameter {
        proto::function::Parameter {
            name: self.name.clone(),
            r#type: json(&self.ty),
            allow_null_value: self.null,
            allow_unknown_values: self.unknown,
            description: self.description.clone(),
            description_kind: StringKind::Markdown.into(),
        }
    }
}

/// What a function was called with: those of its parameters in their order, then the variadic ones.
#[derive(Debug, Clone)]
pub struct Arguments(pub(crate) Vec<Value>);

impl Arguments {
    /// The argument at `index` as a Rust type.
    ///
    /// # Errors
    /// It is something else; the error names the argument.
    pub fn read<T: FromValue>(&self, index: usize) -> Result<T, FunctionError> {
        let value = self.0.get(index).unwrap_or(&Value::Null);
        T::from_value(value)
            .map_err(|error| FunctionError::at(index, error.problem).inside(&error.path))
    }

    /// Those from `index` on: the variadic ones.
    pub fn rest(&self, index: usize) -> &[Value] {
        self.0.get(index..).unwrap_or_default()
    }
}

/// Why a function has no result. Terraform ends the text with a full stop itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct FunctionError {
    /// Which argument is to blame, counted from 0.
    pub argument: Option<usize>,
    pub text: String,
}

impl FunctionError {
    pub fn new(text: impl Into<String>) -> Self {
        Self { argument: None, text: text.into() }
    }

    /// The argument at `index`, counted from 0, is wrong.
    pub fn at(index: usize, text: impl Into<String>) -> Self {
        Self { argument: Some(index), text: text.into() }
    }

    /// What is wrong lies at `path` inside the argument; Terraform shows the argument alone.
    #[must_use]
    pub fn inside(self, path: &Path) -> Self {
        if path.is_empty() {
            return self;
        }
        Self { text: format!("{path}: {}", self.text), ..self }
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn json(ty: &Type) -> Vec<u8> {
    ty.to_json().to_string().into_bytes()
}
