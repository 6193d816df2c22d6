//! GetResourceIdentitySchemas, UpgradeResourceIdentity, and identities in other calls.
//!
//! What Terraform demands holds by itself, since an identity is a part of the state; left to
//! watch is that it is there, and that it stays.

use std::sync::Arc;

use super::{Entry, Inner, guard::guard, wire};
use crate::{
    cty::{Value, json},
    diag::{Diagnostic, Diagnostics},
    proto::{self, get_resource_identity_schemas, upgrade_resource_identity},
    resource::Resource,
};

/// An identity in a message.
pub(super) type Data = Option<proto::ResourceIdentityData>;

pub(super) fn schemas(inner: &Inner) -> get_resource_identity_schemas::Response {
    let with_identity = inner
        .resources
        .iter()
        .filter_map(|(name, entry)| Some((name.clone(), entry.identity.as_ref()?.to_proto())));
    get_resource_identity_schemas::Response {
        identity_schemas: with_identity.collect(),
        diagnostics: Vec::new(),
    }
}

impl Entry<dyn Resource> {
    /// What a message says; `None` where it says nothing or the resource has no identity.
    pub(super) fn read_identity(&self, data: &Data) -> Result<Option<Value>, Diagnostic> {
        let Some(schema) = &self.identity else { return Ok(None) };
        let data = data.as_ref().and_then(|data| data.identity_data.as_ref());
        let value = wire::decode(data, &schema.ty(), "identity")?;
        Ok((!value.is_null()).then_some(value))
    }

    /// For a message.
    pub(super) fn write_identity(&self, identity: Option<&Value>) -> Result<Data, Diagnostic> {
        let (Some(schema), Some(identity)) = (&self.identity, identity) else { return Ok(None) };
        let identity_data = Some(wire::encode(identity, &schema.ty(), "identity")?);
        Ok(Some(proto::ResourceIdentityData { identity_data }))
    }

    /// The identity that `state` has. `before` is what Terraform knows it by: that never changes
    /// while the object lives.
    pub(super) fn identity_of(
        &self,
        state: &Value,
        before: Option<&Value>,
        operation: &str,
    ) -> Result<Option<Value>, Diagnostic> {
        let Some(schema) = self.identity.as_ref().filter(|_| !state.is_null()) else {
            return Ok(None);
        };
        let name = self.it.type_name();
        let Some(identity) = schema.of(state) else {
            return Err(Diagnostic::provider_bug(
                "The provider returned no identity",
                format!(
                    "after {operation} of {name} its state lacks {}",
                    schema.missing(state).join(", ")
                ),
            ));
        };
        match before {
            Some(before) if *before != identity => Err(Diagnostic::provider_bug(
                "The provider changed an identity",
                format!("{name} was {before}, and after {operation} is {identity}"),
            )),
            _ => Ok(Some(identity)),
        }
    }
}

pub(super) async fn upgrade(
    inner: &Arc<Inner>,
    request: upgrade_resource_identity::Request,
) -> upgrade_resource_identity::Response {
    let this = inner.clone();
    let what = format!("upgrading the identity of {}", request.type_name);
    let result = guard(&what, async move { upgrade_inner(&this, request).await }).await;
    let (upgraded_identity, diagnostics) = match result {
        Ok(Ok(identity)) => (identity, Diagnostics::new()),
        Ok(Err(diagnostics)) => (None, diagnostics),
        Err(panicked) => (None, panicked.into()),
    };
    upgrade_resource_identity::Response { upgraded_identity, diagnostics: diagnostics.into_proto() }
}

async fn upgrade_inner(
    inner: &Inner,
    request: upgrade_resource_identity::Request,
) -> Result<Data, Diagnostics> {
    let upgrade_resource_identity::Request { type_name, version, raw_identity } = request;
    let entry = inner.resources.get(&type_name)?;
    let Some(schema) = &entry.identity else {
        return Err(Diagnostic::error(format!("{type_name} has no identity"))
            .cause("this version of the provider knows it by its state alone")
            .remedy("Use the provider version that wrote the state, or later")
            .into());
    };
    if version > schema.version {
        let ours = schema.version;
        return Err(Diagnostic::error(format!("The identity of {type_name} is too new"))
            .cause(format!("it has version {version}, this provider knows up to {ours}"))
            .remedy("Upgrade the provider to the version that wrote the state, or later")
            .into());
    }
    let undecodable = |error| Diagnostics::from(Diagnostic::undecodable("stored identity", &error));
    let raw = wire::parse_json(&raw_identity.unwrap_or_default().json).map_err(undecodable)?;
    let identity = if version == schema.version {
        json::decode_known(&raw, &schema.ty()).map_err(undecodable)?
    } else {
        entry.it.upgrade_identity(version, raw).await?
    };
    // Projected once more: what an upgrade left out is null, and what it has too much goes.
    let identity = schema.of(&identity).ok_or_else(|| {
        let lacking = schema.missing(&identity).join(", ");
        Diagnostic::error(format!("The stored identity of {type_name} cannot be read"))
            .cause(format!("it does not say {lacking}"))
            .remedy("Remove it from the state with terraform state rm and import it again")
    })?;
    Ok(entry.write_identity(Some(&identity))?)
}
