//! GenerateResourceConfig: a configuration for what exists.

use std::sync::Arc;

use super::super::{Inner, guard::guard, wire};
use crate::{
    diag::Diagnostics,
    plan as rules, proto,
    proto::generate_resource_config::{Request, Response},
};

pub(in crate::server) async fn generate(inner: &Arc<Inner>, request: Request) -> Response {
    let this = inner.clone();
    let what = format!("writing a configuration for {}", request.type_name);
    let result = guard(&what, async move { generate_inner(&this, &request) }).await;
    let (config, diagnostics) = match result {
        Ok(Ok(config)) => (Some(config), Diagnostics::new()),
        Ok(Err(diagnostics)) => (None, diagnostics),
        Err(panicked) => (None, panicked.into()),
    };
    Response { config, diagnostics: diagnostics.into_proto() }
}

fn generate_inner(inner: &Inner, request: &Request) -> Result<proto::DynamicValue, Diagnostics> {
    let entry = inner.resources.get(&request.type_name)?;
    let state = wire::decode(request.state.as_ref(), &entry.ty, "state")?;
    let config = entry.it.configuration(rules::configuration(&entry.schema, &state));
    // As for a state: every attribute is there, and nothing that is write-only.
    let config = rules::storable(&entry.schema, &config);
    Ok(wire::encode(&config, &entry.ty, "configuration")?)
}
