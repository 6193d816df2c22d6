//! ValidateEphemeralResourceConfig, OpenEphemeralResource, RenewEphemeralResource and
//! CloseEphemeralResource.

use std::{sync::Arc, time::SystemTime};

use super::{Inner, guard::guard, provider::flatten, validation, wire};
use crate::{
    cty::Value,
    diag::{Diagnostic, Diagnostics},
    ephemeral::EphemeralContext,
    plan as rules,
    proto::{
        close_ephemeral_resource, open_ephemeral_resource, renew_ephemeral_resource,
        validate_ephemeral_resource_config,
    },
    provider::ClientCapabilities,
};

pub(super) async fn validate(
    inner: &Arc<Inner>,
    request: validate_ephemeral_resource_config::Request,
) -> validate_ephemeral_resource_config::Response {
    let validate_ephemeral_resource_config::Request { type_name, config } = request;
    let diagnostics = validation::validate(inner, |all| &all.ephemerals, type_name, config).await;
    validate_ephemeral_resource_config::Response { diagnostics }
}

pub(super) async fn open(
    inner: &Arc<Inner>,
    request: open_ephemeral_resource::Request,
) -> open_ephemeral_resource::Response {
    let this = inner.clone();
    let what = format!("opening {}", request.type_name);
    match guard(&what, async move { open_inner(&this, request).await }).await {
        Ok(Ok(response)) => response,
        Ok(Err(diagnostics)) => failed(diagnostics),
        Err(panicked) => failed(panicked.into()),
    }
}

fn failed(diagnostics: Diagnostics) -> open_ephemeral_resource::Response {
    open_ephemeral_resource::Response {
        diagnostics: diagnostics.into_proto(),
        ..open_ephemeral_resource::Response::default()
    }
}

async fn open_inner(
    inner: &Inner,
    request: open_ephemeral_resource::Request,
) -> Result<open_ephemeral_resource::Response, Diagnostics> {
    let open_ephemeral_resource::Request { type_name, config, client_capabilities } = request;
    let entry = inner.ephemerals.get(&type_name)?;
    let config = wire::decode(config.as_ref(), &entry.ty, "configuration")?;
    let mut ctx = EphemeralContext {
        config: rules::with_defaults(&entry.schema, &config),
        ..context(inner, Vec::new())
    };
    ctx.client = client_capabilities.into();
    let opened = match entry.it.open(&mut ctx).await {
        Ok(opened) => opened,
        Err(errors) => {
            let mut diagnostics = ctx.warnings;
            diagnostics.append(errors);
            return Err(diagnostics);
        }
    };
    let result = entry.schema.complete(&opened.result);
    if !result.is_wholly_known() {
        let cause = format!("{type_name} was opened, and not all of it is known");
        return Err(Diagnostic::provider_bug("The provider left a value unknown", cause).into());
    }
    Ok(open_ephemeral_resource::Response {
        diagnostics: ctx.warnings.into_proto(),
        renew_at: opened.renew_at.map(SystemTime::into),
        result: Some(wire::encode(&result, &entry.ty, "result")?),
        private: Some(ctx.private),
        deferred: None,
    })
}

pub(super) async fn renew(
    inner: &Arc<Inner>,
    request: renew_ephemeral_resource::Request,
) -> renew_ephemeral_resource::Response {
    let (this, before) = (inner.clone(), request.private.clone());
    let what = format!("renewing {}", request.type_name);
    let work = async move {
        let entry = this.ephemerals.get(&request.type_name)?;
        let mut ctx = context(&this, request.private.unwrap_or_default());
        let renewed = entry.it.renew(&mut ctx).await;
        let EphemeralContext { private, mut warnings, .. } = ctx;
        let renew_at = renewed.unwrap_or_else(|errors| {
            warnings.append(errors);
            None
        });
        Ok::<_, Diagnostics>((renew_at, private, warnings))
    };
    let (renew_at, private, diagnostics) = match guard(&what, work).await {
        Ok(Ok((renew_at, private, warnings))) => (renew_at, Some(private), warnings),
        Ok(Err(diagnostics)) => (None, before, diagnostics),
        Err(panicked) => (None, before, panicked.into()),
    };
    renew_ephemeral_resource::Response {
        diagnostics: diagnostics.into_proto(),
        renew_at: renew_at.map(SystemTime::into),
        private,
    }
}

pub(super) async fn close(
    inner: &Arc<Inner>,
    request: close_ephemeral_resource::Request,
) -> close_ephemeral_resource::Response {
    let this = inner.clone();
    let what = format!("closing {}", request.type_name);
    let work = async move {
        let entry = this.ephemerals.get(&request.type_name)?;
        let mut ctx = context(&this, request.private.unwrap_or_default());
        let closed = entry.it.close(&mut ctx).await;
        let mut diagnostics = ctx.warnings;
        diagnostics.append(closed.err().unwrap_or_default());
        Ok::<_, Diagnostics>(diagnostics)
    };
    let diagnostics = flatten(guard(&what, work).await);
    close_ephemeral_resource::Response { diagnostics: diagnostics.into_proto() }
}

fn context(inner: &Inner, private: Vec<u8>) -> EphemeralContext {
    EphemeralContext {
        config: Value::Null,
        client: ClientCapabilities::default(),
        cancel: inner.cancel(),
        private,
        warnings: Diagnostics::new(),
    }
}
