//! MoveResourceState: a `moved` block from one type to another.

use std::sync::Arc;

use super::{
    super::{Inner, guard::guard, wire},
    finished,
};
use crate::{
    diag::{Diagnostic, Diagnostics},
    proto::move_resource_state::{Request, Response},
    resource::MoveSource,
};

pub(in crate::server) async fn take_over(inner: &Arc<Inner>, request: Request) -> Response {
    let this = inner.clone();
    let what = format!("moving {} to {}", request.source_type_name, request.target_type_name);
    let failed = |diagnostics: Diagnostics| Response {
        diagnostics: diagnostics.into_proto(),
        ..Response::default()
    };
    match guard(&what, async move { take_over_inner(&this, request).await }).await {
        Ok(Ok(response)) => response,
        Ok(Err(diagnostics)) => failed(diagnostics),
        Err(panicked) => failed(panicked.into()),
    }
}

async fn take_over_inner(inner: &Inner, request: Request) -> Result<Response, Diagnostics> {
    let Request {
        source_provider_address,
        source_type_name,
        source_schema_version,
        source_state,
        target_type_name,
        source_private,
        source_identity,
        source_identity_schema_version: _,
    } = request;
    let entry = inner.resources.get(&target_type_name)?;
    let parse = |json: &[u8]| {
        wire::parse_json(json).map_err(|error| Diagnostic::undecodable("state to be moved", &error))
    };
    let identity = source_identity.filter(|raw| !raw.json.is_empty());
    let source = MoveSource {
        provider: source_provider_address,
        type_name: source_type_name,
        schema_version: source_schema_version,
        state: parse(&source_state.unwrap_or_default().json)?,
        identity: identity.map(|raw| parse(&raw.json)).transpose()?,
        private: source_private,
    };
    let Some(state) = entry.it.moved_from(&source).await? else {
        return Err(refusal(&source, &target_type_name).into());
    };
    let state = finished(&entry, Some(state), "move")?;
    let identity = entry.identity_of(&state, None, "move")?;
    Ok(Response {
        target_state: Some(wire::encode(&state, &entry.ty, "state")?),
        target_identity: entry.write_identity(identity.as_ref())?,
        ..Response::default()
    })
}

fn refusal(source: &MoveSource, to: &str) -> Diagnostic {
    let from = &source.type_name;
    Diagnostic::error(format!("{from} cannot be moved to {to}"))
        .cause(format!("{to} does not take over the states of {from} of {}", source.provider))
        .remedy(format!(
            "Take {from} out with a removed block, and bring {to} in with an import block"
        ))
}
