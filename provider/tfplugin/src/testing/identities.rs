//! Identities in the test client's calls, and what Terraform demands of them.

use super::{
    State, Terraform,
    calls::{decoded, diagnostics, encoded},
};
use crate::{
    cty::Value,
    diag::Diagnostics,
    proto::{self, provider_server::Provider as _},
    resource::MoveSource,
};

/// An identity in a message.
type Data = Option<proto::ResourceIdentityData>;

impl Terraform {
    /// Imports by identity, as an `import` block does, then reads.
    pub async fn import_by_identity(
        &self,
        type_name: &str,
        identity: Value,
    ) -> Result<Option<State>, Diagnostics> {
        let imported = self.call_import(type_name, "", Some(&identity)).await?;
        self.call_read(&imported).await
    }

    /// What a `moved` block from another type hands over becomes, after it was read.
    pub async fn take_over(
        &self,
        type_name: &str,
        source: &MoveSource,
    ) -> Result<Option<State>, Diagnostics> {
        let raw = |json: &serde_json::Value| proto::RawState {
            json: json.to_string().into_bytes(),
            ..Default::default()
        };
        let request = proto::move_resource_state::Request {
            source_provider_address: source.provider.clone(),
            source_type_name: source.type_name.clone(),
            source_schema_version: source.schema_version,
            source_state: Some(raw(&source.state)),
            target_type_name: type_name.to_owned(),
            source_private: source.private.clone(),
            source_identity: source.identity.as_ref().map(raw),
            source_identity_schema_version: 0,
        };
        let response = call!(self, move_resource_state, request);
        diagnostics(response.diagnostics).into_result()?;
        let value = decoded(response.target_state, &self.schema(type_name).ty());
        assert!(value.is_set(), "{type_name} was moved without an error and without a state");
        let identity = self.identity_after(type_name, &value, response.target_identity, None);
        let private = response.target_private;
        let moved =
            State { type_name: type_name.to_owned(), value, tainted: false, identity, private };
        self.call_read(&moved).await
    }

    /// Reads a stored identity, of this or an older version.
    pub async fn upgrade_identity(
        &self,
        type_name: &str,
        version: i64,
        json: &serde_json::Value,
    ) -> Result<Value, Diagnostics> {
        let request = proto::upgrade_resource_identity::Request {
            type_name: type_name.to_owned(),
            version,
            raw_identity: Some(proto::RawState {
                json: json.to_string().into_bytes(),
                ..Default::default()
            }),
        };
        let response = call!(self, upgrade_resource_identity, request);
        diagnostics(response.diagnostics).into_result()?;
        Ok(self.identity(type_name, response.upgraded_identity).unwrap_or_default())
    }

    /// For a request.
    #[track_caller]
    pub(super) fn identity_data(&self, type_name: &str, identity: Option<&Value>) -> Data {
        let schema = self.server.identity_schema(type_name)?;
        let ty = schema.ty();
        // Every attribute is there, as Terraform sends it.
        let whole = |identity: &Value| {
            let entry = |name: &str| identity.get(name).clone();
            Value::object(schema.parts.iter().map(|part| (part.name.as_str(), entry(&part.name))))
        };
        identity.map(|identity| proto::ResourceIdentityData {
            identity_data: encoded(&whole(identity), &ty),
        })
    }

    /// Of a response.
    #[track_caller]
    pub(super) fn identity(&self, type_name: &str, data: Data) -> Option<Value> {
        let Some(schema) = self.server.identity_schema(type_name) else {
            assert!(data.is_none(), "{type_name} has no identity schema, and an identity");
            return None;
        };
        let value = decoded(data.and_then(|data| data.identity_data), &schema.ty());
        assert!(value.is_wholly_known(), "the identity of {type_name} is not known: {value}");
        value.is_set().then_some(value)
    }

    /// The identity that came with `state`: it has to be there, and as it was.
    #[track_caller]
    pub(super) fn identity_after(
        &self,
        type_name: &str,
        state: &Value,
        data: Data,
        before: Option<&Value>,
    ) -> Option<Value> {
        let identity = self.identity(type_name, data);
        let needed = self.server.identity_schema(type_name).is_some() && !state.is_null();
        assert!(!needed || identity.is_some(), "{type_name} was returned without its identity");
        if let (Some(before), Some(after)) = (before, &identity) {
            assert_eq!(before, after, "the identity of {type_name} has changed");
        }
        identity
    }
}
