//! ValidateDataResourceConfig and ReadDataSource.

use std::sync::Arc;

use super::{Inner, guard::guard, validation, wire};
use crate::{
    data_source::DataSourceContext,
    diag::{Diagnostic, Diagnostics},
    plan,
    proto::{self, read_data_source, validate_data_resource_config},
};

pub(super) async fn validate(
    inner: &Arc<Inner>,
    request: validate_data_resource_config::Request,
) -> validate_data_resource_config::Response {
    let validate_data_resource_config::Request { type_name, config } = request;
    let diagnostics = validation::validate(inner, |all| &all.data_sources, type_name, config).await;
    validate_data_resource_config::Response { diagnostics }
}

pub(super) async fn read(
    inner: &Arc<Inner>,
    request: read_data_source::Request,
) -> read_data_source::Response {
    let this = inner.clone();
    let what = format!("reading {}", request.type_name);
    let result = guard(&what, async move { read_inner(&this, request).await }).await;
    let (state, diagnostics) = match result {
        Ok(Ok((state, warnings))) => (Some(state), warnings),
        Ok(Err(diagnostics)) => (None, diagnostics),
        Err(panicked) => (None, panicked.into()),
    };
    read_data_source::Response { state, diagnostics: diagnostics.into_proto(), deferred: None }
}

async fn read_inner(
    inner: &Inner,
    request: read_data_source::Request,
) -> Result<(proto::DynamicValue, Diagnostics), Diagnostics> {
    let read_data_source::Request { type_name, config, provider_meta: _, client_capabilities } =
        request;
    let entry = inner.data_sources.get(&type_name)?;
    let config = wire::decode(config.as_ref(), &entry.ty, "configuration")?;
    let mut ctx = DataSourceContext {
        config: plan::with_defaults(&entry.schema, &config),
        client: client_capabilities.into(),
        cancel: inner.cancel(),
        warnings: Diagnostics::new(),
    };
    let result = entry.it.read(&mut ctx).await;
    let mut warnings = ctx.warnings;
    let state = match result {
        Ok(state) => plan::storable(&entry.schema, &state),
        Err(errors) => {
            warnings.append(errors);
            return Err(warnings);
        }
    };
    if let Some(path) = plan::unknown_parts(&entry.schema, &state).first() {
        let cause = format!("after reading {type_name} {path} is still unknown");
        return Err(Diagnostic::provider_bug("The provider left a value unknown", cause).into());
    }
    Ok((wire::encode(&state, &entry.ty, "state")?, warnings))
}
