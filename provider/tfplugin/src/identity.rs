//! Resource identity: the part of a state by which an object is known for its whole life.
//!
//! Terraform keeps it beside the state (1.12 and later), takes it in `import` blocks instead of
//! an id, and shows it in `terraform query`. Here it is never made apart: it is what the state
//! says under the same names. So a resource has to name the attributes, and nothing more:
//!
//! ```
//! # use tfplugin::{Attribute, IdentitySchema, Schema};
//! let identity = IdentitySchema::new().required("id", "Its id.");
//! let schema = Schema::new("A disk.").attribute(Attribute::string("id", "Its id.").computed());
//! identity.check("shop_disk", &schema).unwrap();
//! ```

use crate::{
    cty::{Path, Type, Value},
    proto::{self, resource_identity_schema::IdentityAttribute},
    schema::{InvalidSchema, Schema},
};

/// Which attributes of the state are the identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdentitySchema {
    pub(crate) version: i64,
    pub(crate) parts: Vec<Part>,
}

/// One attribute of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) description: String,
    /// Whether an import by identity has to name it.
    pub(crate) required: bool,
}

impl IdentitySchema {
    /// Without attributes, version 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raise it when older identities can no longer be read; then `Resource::upgrade_identity`
    /// is asked.
    #[must_use]
    pub fn version(mut self, version: i64) -> Self {
        self.version = version;
        self
    }

    /// A string that an import by identity has to name.
    #[must_use]
    pub fn required(self, name: impl Into<String>, description: impl Into<String>) -> Self {
        self.part(name, Type::String, description, true)
    }

    /// A string that an import by identity may leave out.
    #[must_use]
    pub fn optional(self, name: impl Into<String>, description: impl Into<String>) -> Self {
        self.part(name, Type::String, description, false)
    }

    /// An attribute of another type; it must be flat: a bool, number, string, or list of these.
    #[must_use]
    pub fn part(
        mut self,
        name: impl Into<String>,
        ty: Type,
        description: impl Into<String>,
        required: bool,
    ) -> Self {
        let (name, description) = (name.into(), description.into());
        self.parts.push(Part { name, ty, description, required });
        self
    }

    /// The object type of identities.
    pub fn ty(&self) -> Type {
        Type::object(self.parts.iter().map(|part| (part.name.clone(), part.ty.clone())))
    }

    /// The identity of the object whose state is `state`. `None` while the state lacks a required
    /// part, or does not know one yet.
    pub fn of(&self, state: &Value) -> Option<Value> {
        let part = |part: &Part| {
            let value = state.get(Path::root().attribute(&part.name));
            let there = value.is_wholly_known() && (value.is_set() || !part.required);
            there.then(|| (part.name.clone(), value.clone()))
        };
        self.parts.iter().map(part).collect::<Option<_>>().map(Value::Map)
    }

    /// The required attributes that `identity` does not name.
    pub(crate) fn missing(&self, identity: &Value) -> Vec<&str> {
        let is_missing = |part: &&Part| {
            part.required && !identity.get(Path::root().attribute(&part.name)).is_set()
        };
        self.parts.iter().filter(is_missing).map(|part| part.name.as_str()).collect()
    }

    /// Whether it obeys Terraform's rules and is a part of `schema`; `serve` and the test client
    /// call it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, name: &str, schema: &Schema) -> Result<(), InvalidSchema> {
        let wrong = |path: Path, problem| {
            Err(InvalidSchema { schema: format!("{name}'s identity"), path, problem })
        };
        if !self.parts.iter().any(|part| part.required) {
            return wrong(Path::root(), "it has no attribute that an import has to name");
        }
        for (index, part) in self.parts.iter().enumerate() {
            let path = Path::root().attribute(&part.name);
            let is_leaf = |ty: &Type| matches!(ty, Type::Bool | Type::Number | Type::String);
            let is_flat = match &part.ty {
                Type::List(of) => is_leaf(of),
                ty => is_leaf(ty),
            };
            if !is_flat {
                return wrong(path, "a part of an identity is a bool, number, string or list");
            }
            if self.parts.iter().take(index).any(|other| other.name == part.name) {
                return wrong(path, "there are two of this name");
            }
            match schema.get(&part.name) {
                None => return wrong(path, "the state has no attribute of this name"),
                Some(attribute) if attribute.ty() != part.ty => {
                    return wrong(path, "the state has it as another type");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn to_proto(&self) -> proto::ResourceIdentitySchema {
        let attribute = |part: &Part| IdentityAttribute {
            name: part.name.clone(),
            r#type: part.ty.to_json().to_string().into_bytes(),
            required_for_import: part.required,
            optional_for_import: !part.required,
            description: part.description.clone(),
        };
        proto::ResourceIdentitySchema {
            version: self.version,
            identity_attributes: self.parts.iter().map(attribute).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attribute;

    fn schema() -> Schema {
        Schema::new("A disk.")
            .attribute(Attribute::string("id", "").computed())
            .attribute(Attribute::string("shelf", "").optional())
            .attribute(Attribute::number("size", "").optional())
    }

    #[test]
    fn it_is_what_the_state_says() {
        let identity = IdentitySchema::new().required("id", "").optional("shelf", "");
        let state = |id: Value, shelf: Value| Value::object([("id", id), ("shelf", shelf)]);
        assert_eq!(
            identity.of(&state("a".into(), Value::Null)),
            Some(Value::object([("id", Value::from("a")), ("shelf", Value::Null)]))
        );
        assert_eq!(identity.of(&state(Value::Unknown, Value::Null)), None);
        assert_eq!(identity.of(&state(Value::Null, "s".into())), None);
        assert_eq!(identity.of(&state("a".into(), Value::Unknown)), None);
        assert_eq!(identity.of(&Value::Null), None);
    }

    #[test]
    fn one_that_terraform_would_refuse_is_told() {
        let problem = |identity: IdentitySchema| {
            identity.check("shop_disk", &schema()).map_err(|wrong| wrong.to_string())
        };
        let id = || IdentitySchema::new().required("id", "");
        assert_eq!(problem(id()), Ok(()));
        let told = |identity, text: &str| {
            let said = problem(identity).unwrap_err();
            assert!(said.contains(text), "{said}");
        };
        told(IdentitySchema::new().optional("id", ""), "has to name");
        told(id().required("id", ""), "two of this name");
        told(id().required("serial", ""), "no attribute of this name");
        told(id().required("size", ""), "another type");
        told(id().part("tags", Type::map(Type::String), "", false), "a part of an identity is");
    }
}
