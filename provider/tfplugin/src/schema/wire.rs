//! A schema as protocol message.

use super::{Attribute, Kind, Nesting, Schema};
use crate::proto::{self, StringKind, schema::object::NestingMode};

impl Schema {
    pub(crate) fn to_proto(&self) -> proto::Schema {
        proto::Schema {
            version: self.version,
            block: Some(proto::schema::Block {
                version: self.version,
                attributes: self.attributes.iter().map(Attribute::to_proto).collect(),
                block_types: Vec::new(),
                description: self.description.clone(),
                description_kind: StringKind::Markdown.into(),
                deprecated: self.deprecated.is_some(),
                deprecation_message: self.deprecated.clone().unwrap_or_default(),
            }),
        }
    }
}

impl Attribute {
    fn to_proto(&self) -> proto::schema::Attribute {
        // Exactly one of type and nested_type may be set.
        let (ty, nested_type) = match &self.kind {
            Kind::Leaf(ty) => (ty.to_json().to_string().into_bytes(), None),
            Kind::Nested(nesting, inner) => {
                let object = proto::schema::Object {
                    attributes: inner.iter().map(Attribute::to_proto).collect(),
                    nesting: match nesting {
                        Nesting::Single => NestingMode::Single,
                        Nesting::List => NestingMode::List,
                        Nesting::Set => NestingMode::Set,
                        Nesting::Map => NestingMode::Map,
                    }
                    .into(),
                };
                (Vec::new(), Some(object))
            }
        };
        proto::schema::Attribute {
            name: self.name.clone(),
            r#type: ty,
            nested_type,
            description: self.description.clone(),
            description_kind: StringKind::Markdown.into(),
            required: self.mode == super::Mode::Required,
            optional: matches!(self.mode, super::Mode::Optional | super::Mode::OptionalComputed),
            computed: self.mode.is_computed(),
            sensitive: self.sensitive,
            deprecated: self.deprecated.is_some(),
            deprecation_message: self.deprecated.clone().unwrap_or_default(),
            write_only: self.write_only,
        }
    }
}
