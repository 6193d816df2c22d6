//! The calls about resources. Planning and applying have files of their own.

mod apply;
mod generate;
mod moving;
mod plan;

use std::sync::Arc;

pub(super) use apply::apply;
pub(super) use generate::generate;
pub(super) use moving::take_over;
pub(super) use plan::plan;

use super::{Entry, Inner, guard::guard, provider::flatten, wire};
use crate::{
    cty::{Path, Value, json},
    diag::{Diagnostic, Diagnostics},
    plan as rules,
    private::Private,
    proto::{
        self, import_resource_state, read_resource, upgrade_resource_state,
        validate_resource_config,
    },
    provider::ClientCapabilities,
    resource::{ImportContext, ReadContext, Resource, ValidateContext},
};

pub(super) async fn validate(
    inner: &Arc<Inner>,
    request: validate_resource_config::Request,
) -> validate_resource_config::Response {
    let this = inner.clone();
    let what = format!("validating {}", request.type_name);
    let work = async move {
        let entry = this.resources.get(&request.type_name)?;
        let config = wire::decode(request.config.as_ref(), &entry.ty, "configuration")?;
        let client = ClientCapabilities::from(request.client_capabilities);
        let mut diagnostics = entry.schema.validate(&config);
        if !client.write_only_attributes_allowed {
            diagnostics.extend(rules::write_only_set(&entry.schema, &config).into_iter().map(
                |path| {
                    Diagnostic::error(format!("{path} is write-only"))
                        .cause("this version of Terraform would store it in the state")
                        .remedy("Use Terraform 1.11 or later, or leave the attribute unset")
                        .at(path)
                },
            ));
        }
        diagnostics.append(entry.it.validate(&ValidateContext { config, client }).await);
        Ok::<_, Diagnostics>(diagnostics)
    };
    let diagnostics = flatten(guard(&what, work).await);
    validate_resource_config::Response { diagnostics: diagnostics.into_proto() }
}

pub(super) async fn upgrade(
    inner: &Arc<Inner>,
    request: upgrade_resource_state::Request,
) -> upgrade_resource_state::Response {
    let this = inner.clone();
    let what = format!("upgrading the state of {}", request.type_name);
    let result = guard(&what, async move { upgrade_inner(&this, request).await }).await;
    let (upgraded_state, diagnostics) = match result {
        Ok(Ok(state)) => (Some(state), Diagnostics::new()),
        Ok(Err(diagnostics)) => (None, diagnostics),
        Err(panicked) => (None, panicked.into()),
    };
    upgrade_resource_state::Response { upgraded_state, diagnostics: diagnostics.into_proto() }
}

async fn upgrade_inner(
    inner: &Inner,
    request: upgrade_resource_state::Request,
) -> Result<proto::DynamicValue, Diagnostics> {
    let upgrade_resource_state::Request { type_name, version, raw_state } = request;
    let entry = inner.resources.get(&type_name)?;
    let ours = entry.schema.version;
    if version > ours {
        return Err(Diagnostic::error(format!("The state of {type_name} is too new"))
            .cause(format!("it has schema version {version}, this provider knows up to {ours}"))
            .remedy("Upgrade the provider to the version that wrote the state, or later")
            .into());
    }
    let raw = raw_state.unwrap_or_default();
    if raw.json.is_empty() && !raw.flatmap.is_empty() {
        return Err(Diagnostic::error(format!("The state of {type_name} is too old"))
            .cause("it was written by Terraform before 0.12")
            .remedy("Remove it from the state with terraform state rm and import it again")
            .into());
    }
    let undecodable = |error| Diagnostics::from(Diagnostic::undecodable("stored state", &error));
    let json = wire::parse_json(&raw.json).map_err(undecodable)?;
    let state = if version == ours {
        json::decode_known(&json, &entry.ty).map_err(undecodable)?
    } else {
        entry.it.upgrade(version, json).await?
    };
    let state = finished(&entry, Some(state), "upgrade")?;
    Ok(wire::encode(&state, &entry.ty, "state")?)
}

pub(super) async fn read(
    inner: &Arc<Inner>,
    request: read_resource::Request,
) -> read_resource::Response {
    // After an error Terraform keeps what it has; so that is what is sent back.
    let (before, private_before) = (request.current_state.clone(), request.private.clone());
    let identity_before = request.current_identity.clone();
    let failed = |diagnostics: Diagnostics| read_resource::Response {
        new_state: before,
        private: private_before,
        new_identity: identity_before,
        diagnostics: diagnostics.into_proto(),
        ..read_resource::Response::default()
    };
    let this = inner.clone();
    let what = format!("reading {}", request.type_name);
    match guard(&what, async move { read_inner(&this, request).await }).await {
        Ok(Ok(response)) => response,
        Ok(Err(diagnostics)) => failed(diagnostics),
        Err(panicked) => failed(panicked.into()),
    }
}

async fn read_inner(
    inner: &Inner,
    request: read_resource::Request,
) -> Result<read_resource::Response, Diagnostics> {
    let read_resource::Request {
        type_name,
        current_state,
        private,
        client_capabilities,
        current_identity,
        provider_meta: _,
    } = request;
    let entry = inner.resources.get(&type_name)?;
    let known_by = entry.read_identity(&current_identity)?;
    let state = wire::decode(current_state.as_ref(), &entry.ty, "state")?;
    let mut ctx = ReadContext {
        state,
        client: client_capabilities.into(),
        cancel: inner.cancel(),
        outcome: crate::resource::Outcome::new(Private::decode(&private)?),
    };
    let result = entry.it.read(&mut ctx).await;
    let produced = ctx.outcome.take();
    let mut diagnostics = produced.warnings;
    if let Err(errors) = result {
        diagnostics.append(errors);
        return Err(diagnostics);
    }
    let state = finished(&entry, produced.state, "read")?;
    let identity = entry.identity_of(&state, known_by.as_ref(), "read")?;
    Ok(read_resource::Response {
        new_state: Some(wire::encode(&state, &entry.ty, "state")?),
        diagnostics: diagnostics.into_proto(),
        private: produced.private.encode(),
        new_identity: entry.write_identity(identity.as_ref())?,
        deferred: None,
    })
}

/// A state that an operation ended with in good order: there, wholly known, ready to be stored.
pub(super) fn finished(
    entry: &Entry<dyn Resource>,
    state: Option<Value>,
    operation: &str,
) -> Result<Value, Diagnostic> {
    let type_name = entry.it.type_name();
    let state = state.ok_or_else(|| {
        Diagnostic::provider_bug(
            "The provider returned no state",
            format!("{operation} of {type_name} ended without an error and without a state"),
        )
    })?;
    let state = rules::storable(&entry.schema, &state);
    match rules::unknown_parts(&entry.schema, &state).first() {
        None => Ok(state),
        Some(path) => Err(Diagnostic::provider_bug(
            "The provider left a value unknown",
            format!("after {operation} of {type_name} {path} is still unknown"),
        )),
    }
}

pub(super) async fn import(
    inner: &Arc<Inner>,
    request: import_resource_state::Request,
) -> import_resource_state::Response {
    let this = inner.clone();
    let what = format!("importing {}", request.type_name);
    match guard(&what, async move { import_inner(&this, request).await }).await {
        Ok(Ok(response)) => response,
        Ok(Err(diagnostics)) => import_failed(diagnostics),
        Err(panicked) => import_failed(panicked.into()),
    }
}

fn import_failed(diagnostics: Diagnostics) -> import_resource_state::Response {
    import_resource_state::Response {
        diagnostics: diagnostics.into_proto(),
        ..import_resource_state::Response::default()
    }
}

async fn import_inner(
    inner: &Inner,
    request: import_resource_state::Request,
) -> Result<import_resource_state::Response, Diagnostics> {
    let import_resource_state::Request { type_name, id, client_capabilities, identity } = request;
    let entry = inner.resources.get(&type_name)?;
    let asked_by = entry.read_identity(&identity)?.filter(|_| id.is_empty());
    if let (Some(asked_by), Some(schema)) = (&asked_by, &entry.identity)
        && let missing @ [_, ..] = schema.missing(asked_by).as_slice()
    {
        return Err(Diagnostic::error(format!("Cannot import the {type_name}"))
            .cause(format!("its identity does not say {}", missing.join(", ")))
            .remedy("Name it in the identity of the import block")
            .into());
    }
    let mut ctx = ImportContext {
        id,
        identity: asked_by.clone().unwrap_or_default(),
        client: client_capabilities.into(),
        cancel: inner.cancel(),
        outcome: crate::resource::Outcome::default(),
    };
    let result = match asked_by {
        Some(_) => entry.it.import_by_identity(&mut ctx).await,
        None => entry.it.import(&mut ctx).await,
    };
    let produced = ctx.outcome.take();
    let mut diagnostics = produced.warnings;
    if let Err(errors) = result {
        diagnostics.append(errors);
        return Err(diagnostics);
    }
    let state = finished(&entry, produced.state, "import")?;
    let identity = entry.identity_of(&state, None, "import")?;
    if let (Some(asked_by), Some(identity)) = (&asked_by, &identity) {
        same_where_asked(&type_name, asked_by, identity)?;
    }
    let imported = import_resource_state::ImportedResource {
        state: Some(wire::encode(&state, &entry.ty, "state")?),
        private: produced.private.encode(),
        type_name,
        identity: entry.write_identity(identity.as_ref())?,
    };
    Ok(import_resource_state::Response {
        imported_resources: vec![imported],
        diagnostics: diagnostics.into_proto(),
        deferred: None,
    })
}

/// What a user asked for by identity has to be what is imported.
fn same_where_asked(type_name: &str, asked: &Value, identity: &Value) -> Result<(), Diagnostic> {
    let entries = asked.as_map().into_iter().flatten();
    let differs = entries
        .filter(|(_, value)| value.is_set())
        .find(|(name, value)| identity.get(Path::root().attribute(*name)) != *value);
    match differs {
        None => Ok(()),
        Some((name, value)) => Err(Diagnostic::provider_bug(
            "The provider imported something else",
            format!("{type_name} was asked for with {name} = {value}, and is {identity}"),
        )),
    }
}
