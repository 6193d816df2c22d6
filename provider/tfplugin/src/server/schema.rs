//! GetMetadata and GetProviderSchema.

use super::{Inner, function};
use crate::{
    proto::{self, get_metadata, get_provider_schema},
    schema::Schema,
};

fn capabilities() -> Option<proto::ServerCapabilities> {
    Some(proto::ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        move_resource_state: true,
        generate_resource_config: true,
    })
}

pub(super) fn metadata(inner: &Inner) -> get_metadata::Response {
    let resource = |name: &String| get_metadata::ResourceMetadata { type_name: name.clone() };
    let source = |name: &String| get_metadata::DataSourceMetadata { type_name: name.clone() };
    let ephemeral = |name: &String| get_metadata::EphemeralMetadata { type_name: name.clone() };
    let action = |name: &String| get_metadata::ActionMetadata { type_name: name.clone() };
    let function = |name: &String| get_metadata::FunctionMetadata { name: name.clone() };
    let list = |name: &String| get_metadata::ListResourceMetadata { type_name: name.clone() };
    get_metadata::Response {
        server_capabilities: capabilities(),
        resources: inner.resources.names().map(resource).collect(),
        data_sources: inner.data_sources.names().map(source).collect(),
        functions: inner.functions.names().map(function).collect(),
        actions: inner.actions.names().map(action).collect(),
        list_resources: inner.list_resources.names().map(list).collect(),
        ephemeral_resources: inner.ephemerals.names().map(ephemeral).collect(),
        ..get_metadata::Response::default()
    }
}

pub(super) fn provider_schema(inner: &Inner) -> get_provider_schema::Response {
    let resources = inner.resources.iter();
    let sources = inner.data_sources.iter();
    let lists = inner.list_resources.iter();
    get_provider_schema::Response {
        provider: Some(settings(&inner.schema)),
        resource_schemas: resources.map(|(n, e)| (n.clone(), e.schema.to_proto())).collect(),
        list_resource_schemas: lists.map(|(n, e)| (n.clone(), settings(&e.schema))).collect(),
        data_source_schemas: sources.map(|(n, e)| (n.clone(), e.schema.to_proto())).collect(),
        ephemeral_resource_schemas: inner
            .ephemerals
            .iter()
            .map(|(name, entry)| (name.clone(), entry.schema.to_proto()))
            .collect(),
        functions: function::all(inner),
        action_schemas: inner.actions.iter().map(|(n, e)| (n.clone(), action(&e.schema))).collect(),
        server_capabilities: capabilities(),
        ..get_provider_schema::Response::default()
    }
}

/// Of what has no state nothing is computed: a default is filled in where it is used.
fn settings(schema: &Schema) -> proto::Schema {
    let mut schema = schema.to_proto();
    for attribute in schema.block.iter_mut().flat_map(|block| &mut block.attributes) {
        attribute.computed = false;
    }
    schema
}

fn action(schema: &Schema) -> proto::ActionSchema {
    proto::ActionSchema { schema: Some(settings(schema)) }
}
