//! Schemas: which attributes there are, and what holds for each.
//!
//! ```
//! use tfplugin::{Attribute, Schema, Validator};
//!
//! let schema = Schema::new("A disk.")
//!     .attribute(Attribute::string("name", "Name of the disk.").required())
//!     .attribute(Attribute::number("size_gib", "Size in GiB.").default(8).validate(Validator::range(1..=4096)))
//!     .attribute(Attribute::string("pool", "Where it lies.").optional().replace_on_change())
//!     .attribute(Attribute::string("id", "Id.").computed());
//! # schema.check("disk").unwrap();
//! ```

mod check;
mod validator;
mod wire;

use std::collections::BTreeMap;

pub use check::InvalidSchema;
pub use validator::Validator;

use crate::{
    cty::{Type, Value},
    diag::Diagnostics,
};

/// The attributes of a provider, resource or data source.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    pub(crate) version: i64,
    pub(crate) description: String,
    pub(crate) deprecated: Option<String>,
    pub(crate) subcategory: String,
    pub(crate) attributes: Vec<Attribute>,
}

impl Schema {
    /// An empty schema, version 0. `description` is Markdown.
    pub fn new(description: impl Into<String>) -> Self {
        Self { description: description.into(), ..Self::default() }
    }

    /// Raise it when older states can no longer be read; then `Resource::upgrade` is asked.
    #[must_use]
    pub fn version(mut self, version: i64) -> Self {
        self.version = version;
        self
    }

    #[must_use]
    pub fn deprecated(mut self, message: impl Into<String>) -> Self {
        self.deprecated = Some(message.into());
        self
    }

    /// The heading under which the registry lists the page.
    #[must_use]
    pub fn subcategory(mut self, subcategory: impl Into<String>) -> Self {
        self.subcategory = subcategory.into();
        self
    }

    /// What [`Self::subcategory`] said.
    pub fn heading(&self) -> &str {
        &self.subcategory
    }

    #[must_use]
    pub fn attribute(mut self, attribute: Attribute) -> Self {
        self.attributes.push(attribute);
        self
    }

    #[must_use]
    pub fn attributes(mut self, attributes: impl IntoIterator<Item = Attribute>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Its attributes, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter()
    }

    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// The object type of values of this schema.
    pub fn ty(&self) -> Type {
        object_type(&self.attributes)
    }

    /// `value` with every attribute present, null where it was missing.
    #[must_use]
    pub fn complete(&self, value: &Value) -> Value {
        complete_object(&self.attributes, value)
    }

    /// Runs the validators of all attributes on a configuration; unknown parts are skipped.
    pub fn validate(&self, config: &Value) -> Diagnostics {
        check::validate(self, config)
    }

    /// Whether the schema obeys Terraform's rules; `serve` and the test client call it.
    pub fn check(&self, name: &str) -> Result<(), InvalidSchema> {
        check::check(self, name)
    }
}

/// Who gives an attribute its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The user must set it.
    Required,
    /// The user may set it; unset it is null.
    Optional,
    /// Only the provider sets it.
    Computed,
    /// The user may set it; else the provider does, by a default or otherwise.
    OptionalComputed,
}

impl Mode {
    pub fn is_computed(self) -> bool {
        matches!(self, Self::Computed | Self::OptionalComputed)
    }

    pub fn is_configurable(self) -> bool {
        self != Self::Computed
    }
}

/// What is inside a nested attribute, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nesting {
    Single,
    List,
    Set,
    Map,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Leaf(Type),
    Nested(Nesting, Vec<Attribute>),
}

/// One attribute. It is optional until `required` or `computed` is said.
#[derive(Debug, Clone)]
pub struct Attribute {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) description: String,
    pub(crate) mode: Mode,
    pub(crate) sensitive: bool,
    pub(crate) write_only: bool,
    pub(crate) deprecated: Option<String>,
    pub(crate) default: Option<Value>,
    pub(crate) replace: bool,
    pub(crate) validators: Vec<Validator>,
}

impl Attribute {
    /// An attribute of any type. `description` is Markdown.
    pub fn new(name: impl Into<String>, ty: Type, description: impl Into<String>) -> Self {
        Self::of(name.into(), Kind::Leaf(ty), description.into())
    }

    pub fn string(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self::new(name, Type::String, description)
    }

    pub fn number(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self::new(name, Type::Number, description)
    }

    pub fn bool(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self::new(name, Type::Bool, description)
    }

    pub fn list(name: impl Into<String>, element: Type, description: impl Into<String>) -> Self {
        Self::new(name, Type::list(element), description)
    }

    pub fn set(name: impl Into<String>, element: Type, description: impl Into<String>) -> Self {
        Self::new(name, Type::set(element), description)
    }

    pub fn map(name: impl Into<String>, element: Type, description: impl Into<String>) -> Self {
        Self::new(name, Type::map(element), description)
    }

    /// A nested attribute: one object, or a list, set or map of objects.
    pub fn nested(
        name: impl Into<String>,
        nesting: Nesting,
        description: impl Into<String>,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Self {
        let kind = Kind::Nested(nesting, attributes.into_iter().collect());
        Self::of(name.into(), kind, description.into())
    }

    /// One nested object: `name = { ... }`.
    pub fn object(
        name: impl Into<String>,
        description: impl Into<String>,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Self {
        Self::nested(name, Nesting::Single, description, attributes)
    }

    fn of(name: String, kind: Kind, description: String) -> Self {
        Self {
            name,
            kind,
            description,
            mode: Mode::Optional,
            sensitive: false,
            write_only: false,
            deprecated: None,
            default: None,
            replace: false,
            validators: Vec::new(),
        }
    }

    /// The same where it can only be looked at: computed, and so is all that is nested in it.
    #[must_use]
    pub fn shown(&self, description: impl Into<String>) -> Self {
        let kind = match &self.kind {
            Kind::Leaf(ty) => Kind::Leaf(ty.clone()),
            Kind::Nested(nesting, inner) => {
                let inner = inner.iter().map(|inner| inner.shown(inner.description.as_str()));
                Kind::Nested(*nesting, inner.collect())
            }
        };
        let shown = Self::of(self.name.clone(), kind, description.into()).computed();
        Self { sensitive: self.sensitive, ..shown }
    }

    #[must_use]
    pub fn required(mut self) -> Self {
        self.mode = Mode::Required;
        self
    }

    #[must_use]
    pub fn optional(mut self) -> Self {
        self.mode = Mode::Optional;
        self
    }

    /// Only the provider sets it: unknown when planned for creation, kept on update.
    #[must_use]
    pub fn computed(mut self) -> Self {
        self.mode = Mode::Computed;
        self
    }

    /// The user may set it, else the provider does: unknown on creation, kept on update.
    #[must_use]
    pub fn optional_computed(mut self) -> Self {
        self.mode = Mode::OptionalComputed;
        self
    }

    /// Optional, with this value where the user sets none.
    #[must_use]
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.mode = Mode::OptionalComputed;
        self.default = Some(value.into());
        self
    }

    /// Not shown in plans.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Only in the configuration, never in plan or state (Terraform 1.11 and later).
    #[must_use]
    pub fn write_only(mut self) -> Self {
        self.write_only = true;
        self
    }

    /// The message says what to use instead; it becomes a warning wherever the attribute is set.
    #[must_use]
    pub fn deprecated(mut self, message: impl Into<String>) -> Self {
        self.deprecated = Some(message.into());
        self
    }

    /// A change of this attribute replaces the resource.
    #[must_use]
    pub fn replace_on_change(mut self) -> Self {
        self.replace = true;
        self
    }

    #[must_use]
    pub fn validate(mut self, validator: Validator) -> Self {
        self.validators.push(validator);
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// In Markdown.
    pub fn description(&self) -> &str {
        &self.description
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether a change of it replaces the object.
    pub fn replaces(&self) -> bool {
        self.replace
    }

    /// Whether it is in the configuration only, never in a plan or state.
    pub fn is_write_only(&self) -> bool {
        self.write_only
    }

    /// How many elements it has, one below another or by key; single where it is no collection.
    pub(crate) fn nesting(&self) -> Nesting {
        match &self.kind {
            Kind::Nested(nesting, _) => *nesting,
            Kind::Leaf(Type::List(_)) => Nesting::List,
            Kind::Leaf(Type::Set(_)) => Nesting::Set,
            Kind::Leaf(Type::Map(_)) => Nesting::Map,
            Kind::Leaf(_) => Nesting::Single,
        }
    }

    pub fn ty(&self) -> Type {
        match &self.kind {
            Kind::Leaf(ty) => ty.clone(),
            Kind::Nested(nesting, attributes) => {
                let object = object_type(attributes);
                match nesting {
                    Nesting::Single => object,
                    Nesting::List => Type::list(object),
                    Nesting::Set => Type::set(object),
                    Nesting::Map => Type::map(object),
                }
            }
        }
    }
}

pub(crate) fn object_type(attributes: &[Attribute]) -> Type {
    Type::object(attributes.iter().map(|attribute| (attribute.name.clone(), attribute.ty())))
}

fn complete_object(attributes: &[Attribute], value: &Value) -> Value {
    if value.is_unknown() {
        return Value::Unknown;
    }
    let mut entries: BTreeMap<_, _> = value.as_map().cloned().unwrap_or_default();
    for attribute in attributes {
        let entry = entries.entry(attribute.name.clone()).or_default();
        *entry = complete_attribute(attribute, entry);
    }
    Value::Map(entries)
}

fn complete_attribute(attribute: &Attribute, value: &Value) -> Value {
    let Kind::Nested(nesting, inner) = &attribute.kind else {
        return attribute.ty().normalise(value);
    };
    let completed = match (nesting, value) {
        (Nesting::Single, Value::Map(_)) => complete_object(inner, value),
        (Nesting::List | Nesting::Set, Value::List(elements)) => {
            Value::List(elements.iter().map(|e| complete_element(inner, e)).collect())
        }
        (Nesting::Map, Value::Map(entries)) => Value::Map(
            entries.iter().map(|(key, e)| (key.clone(), complete_element(inner, e))).collect(),
        ),
        _ => value.clone(),
    };
    attribute.ty().normalise(&completed)
}

fn complete_element(attributes: &[Attribute], element: &Value) -> Value {
    if element.is_set() { complete_object(attributes, element) } else { element.clone() }
}
