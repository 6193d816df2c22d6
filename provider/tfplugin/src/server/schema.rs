//! GetMetadata and GetProviderSchema.

use super::Inner;
use crate::proto::{self, get_metadata, get_provider_schema};

fn capabilities() -> Option<proto::ServerCapabilities> {
    Some(proto::ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        move_resource_state: false,
        generate_resource_config: false,
    })
}

pub(super) fn metadata(inner: &Inner) -> get_metadata::Response {
    let resource = |name: &String| get_metadata::ResourceMetadata { type_name: name.clone() };
    let source = |name: &String| get_metadata::DataSourceMetadata { type_name: name.clone() };
    get_metadata::Response {
        server_capabilities: capabilities(),
        resources: inner.resources.keys().map(resource).collect(),
        data_sources: inner.data_sources.keys().map(source).collect(),
        ..get_metadata::Response::default()
    }
}

pub(super) fn provider_schema(inner: &Inner) -> get_provider_schema::Response {
    let mut provider = inner.schema.to_proto();
    // Nothing is computed in settings; a default is filled in by `configure`.
    for attribute in provider.block.iter_mut().flat_map(|block| &mut block.attributes) {
        attribute.computed = false;
    }
    let resources = inner.resources.iter();
    let sources = inner.data_sources.iter();
    get_provider_schema::Response {
        provider: Some(provider),
        resource_schemas: resources.map(|(n, e)| (n.clone(), e.schema.to_proto())).collect(),
        data_source_schemas: sources.map(|(n, e)| (n.clone(), e.schema.to_proto())).collect(),
        server_capabilities: capabilities(),
        ..get_provider_schema::Response::default()
    }
}
