//! ValidateProviderConfig and ConfigureProvider.

use std::sync::Arc;

use super::{Inner, guard::guard, wire};
use crate::{
    diag::Diagnostics,
    plan,
    proto::{configure_provider, validate_provider_config},
    provider::ConfigureContext,
};

pub(super) async fn validate(
    inner: &Arc<Inner>,
    request: validate_provider_config::Request,
) -> validate_provider_config::Response {
    let this = inner.clone();
    let work = async move {
        let config = wire::decode(request.config.as_ref(), &this.ty, "provider configuration")?;
        let mut diagnostics = this.schema.validate(&config);
        // What is wrong by itself is told once.
        if !diagnostics.has_errors() {
            diagnostics.append(this.provider.validate(&config).await);
        }
        Ok::<_, Diagnostics>(diagnostics)
    };
    let diagnostics = flatten(guard("validating the provider's settings", work).await);
    validate_provider_config::Response { diagnostics: diagnostics.into_proto() }
}

pub(super) async fn configure(
    inner: &Arc<Inner>,
    request: configure_provider::Request,
) -> configure_provider::Response {
    inner.start();
    let this = inner.clone();
    let work = async move {
        let configure_provider::Request { terraform_version, config, client_capabilities } =
            request;
        let config = wire::decode(config.as_ref(), &this.ty, "provider configuration")?;
        let ctx = ConfigureContext {
            config: plan::with_defaults(&this.schema, &config),
            terraform_version,
            client: client_capabilities.into(),
            cancel: this.cancel(),
        };
        Ok::<_, Diagnostics>(this.provider.configure(&ctx).await)
    };
    let diagnostics = flatten(guard("configuring the provider", work).await);
    configure_provider::Response { diagnostics: diagnostics.into_proto() }
}

/// Diagnostics either way.
pub(super) fn flatten(
    result: Result<Result<Diagnostics, Diagnostics>, crate::diag::Diagnostic>,
) -> Diagnostics {
    match result {
        Ok(Ok(diagnostics) | Err(diagnostics)) => diagnostics,
        Err(panicked) => panicked.into(),
    }
}
