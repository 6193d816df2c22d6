//! Single calls, encoded as on the wire.

use std::time::SystemTime;

use prost::Message;
use tokio_stream::StreamExt as _;

use super::{Applied, Ephemeral, Invoked, Plan, State, Terraform, consistency::assert_conforms};
use crate::{
    cty::{Path, Step, Type, Value, msgpack},
    diag::{Diagnostic, Diagnostics},
    function::FunctionError,
    plan as rules,
    proto::{self, provider_server::Provider as _},
    schema::Schema,
};

/// A planned change, as one call answered it.
pub(super) struct Planned {
    pub(super) planned: Value,
    pub(super) replaced_by: Vec<Path>,
    pub(super) private: Vec<u8>,
    pub(super) warnings: Diagnostics,
}

/// `message` after a trip over the wire.
pub(super) fn over_the_wire<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice())
        .unwrap_or_else(|error| panic!("a message does not survive its own encoding: {error}"))
}

/// Calls an RPC of the server, both messages going over the wire.
macro_rules! call {
    ($terraform:expr, $method:ident, $request:expr) => {{
        use $crate::testing::calls::over_the_wire;
        let request = tonic::Request::new(over_the_wire(&$request));
        match $terraform.server.$method(request).await {
            Ok(response) => over_the_wire(&response.into_inner()),
            Err(status) => panic!("{} failed: {status}", stringify!($method)),
        }
    }};
}

#[track_caller]
pub(super) fn encoded(value: &Value, ty: &Type) -> Option<proto::DynamicValue> {
    match msgpack::encode(value, ty) {
        Ok(msgpack) => Some(proto::DynamicValue { msgpack, json: Vec::new() }),
        Err(error) => panic!("the test's value does not fit the schema: {error}"),
    }
}

#[track_caller]
pub(super) fn decoded(value: Option<proto::DynamicValue>, ty: &Type) -> Value {
    let Some(value) = value.filter(|value| !value.msgpack.is_empty()) else { return Value::Null };
    msgpack::decode(&value.msgpack, ty)
        .unwrap_or_else(|error| panic!("the provider's value does not fit the schema: {error}"))
}

pub(super) fn diagnostics(list: Vec<proto::Diagnostic>) -> Diagnostics {
    list.into_iter()
        .map(|diagnostic| {
            let proto::Diagnostic { severity, summary, detail, attribute } = diagnostic;
            let warning = severity == i32::from(proto::diagnostic::Severity::Warning);
            let made =
                if warning { Diagnostic::warning(summary) } else { Diagnostic::error(summary) };
            Diagnostic { detail, path: attribute.map(path), ..made }
        })
        .collect()
}

fn moment(at: prost_types::Timestamp) -> SystemTime {
    at.try_into().unwrap_or_else(|error| panic!("no moment: {error}"))
}

fn path(path: proto::AttributePath) -> Path {
    use proto::attribute_path::step::Selector;
    let step = |selector| match selector {
        Selector::AttributeName(name) => Step::Attribute(name),
        Selector::ElementKeyString(key) => Step::Key(key),
        Selector::ElementKeyInt(index) => Step::Index(usize::try_from(index).unwrap_or_default()),
    };
    path.steps.into_iter().filter_map(|s| s.selector).map(step).collect()
}

impl Terraform {
    fn client(&self) -> Option<proto::ClientCapabilities> {
        Some(proto::ClientCapabilities {
            deferral_allowed: false,
            write_only_attributes_allowed: self.write_only_allowed,
        })
    }

    pub(super) async fn call_configure(&self, config: &Value) -> Result<Diagnostics, Diagnostics> {
        let config = encoded(config, &self.server.provider_schema().ty());
        let request = proto::validate_provider_config::Request { config: config.clone() };
        let response = call!(self, validate_provider_config, request);
        let mut warnings = diagnostics(response.diagnostics).into_result()?;
        let request = proto::configure_provider::Request {
            terraform_version: "1.11.4".to_owned(),
            config,
            client_capabilities: self.client(),
        };
        let response = call!(self, configure_provider, request);
        warnings.append(diagnostics(response.diagnostics).into_result()?);
        Ok(warnings)
    }

    pub(super) async fn call_validate(
        &self,
        type_name: &str,
        config: &Value,
    ) -> Result<Diagnostics, Diagnostics> {
        let request = proto::validate_resource_config::Request {
            type_name: type_name.to_owned(),
            config: encoded(config, &self.schema(type_name).ty()),
            client_capabilities: self.client(),
        };
        let response = call!(self, validate_resource_config, request);
        diagnostics(response.diagnostics).into_result()
    }

    pub(super) async fn call_plan(
        &self,
        type_name: &str,
        config: &Value,
        prior: Option<&State>,
    ) -> Result<Planned, Diagnostics> {
        let private = prior.map(|prior| prior.private.clone()).unwrap_or_default();
        self.call_plan_knowing(type_name, config, prior, private).await
    }

    /// The same with private data that are not the prior state's: of the plan that found out that it is a
    /// replacement.
    pub(super) async fn call_plan_knowing(
        &self,
        type_name: &str,
        config: &Value,
        prior: Option<&State>,
        prior_private: Vec<u8>,
    ) -> Result<Planned, Diagnostics> {
        let schema = self.schema(type_name);
        let ty = schema.ty();
        let prior_value = prior.map_or(Value::Null, |prior| prior.value.clone());
        let known_by = prior.and_then(|prior| prior.identity.clone());
        let request = proto::plan_resource_change::Request {
            type_name: type_name.to_owned(),
            prior_state: encoded(&prior_value, &ty),
            // Only whether it is null matters to the library.
            proposed_new_state: encoded(config, &ty),
            config: encoded(config, &ty),
            prior_private,
            client_capabilities: self.client(),
            provider_meta: None,
            prior_identity: self.identity_data(type_name, known_by.as_ref()),
        };
        let response = call!(self, plan_resource_change, request);
        let warnings = diagnostics(response.diagnostics).into_result()?;
        let planned = decoded(response.planned_state, &ty);
        let identity = self.identity(type_name, response.planned_identity);
        assert_eq!(known_by, identity, "the plan changes the identity of {type_name}");
        let broken = rules::contradictions(schema, config, &prior_value, &planned);
        assert!(
            broken.is_empty(),
            "invalid plan: {type_name} departs from its configuration at {broken:?}"
        );
        assert_write_only_null(schema, &planned, "plan");
        let replaced_by = response.requires_replace.into_iter().map(path).collect();
        Ok(Planned { planned, replaced_by, private: response.planned_private, warnings })
    }

    pub(super) async fn call_plan_destroy(&self, prior: &State) -> Result<Planned, Diagnostics> {
        let ty = self.schema(&prior.type_name).ty();
        let request = proto::plan_resource_change::Request {
            type_name: prior.type_name.clone(),
            prior_state: encoded(&prior.value, &ty),
            proposed_new_state: encoded(&Value::Null, &ty),
            config: encoded(&Value::Null, &ty),
            prior_private: prior.private.clone(),
            client_capabilities: self.client(),
            provider_meta: None,
            prior_identity: self.identity_data(&prior.type_name, prior.identity.as_ref()),
        };
        let response = call!(self, plan_resource_change, request);
        let warnings = diagnostics(response.diagnostics).into_result()?;
        let planned = decoded(response.planned_state, &ty);
        assert!(planned.is_null(), "invalid plan: a destruction must plan null");
        Ok(Planned {
            planned,
            replaced_by: Vec::new(),
            private: response.planned_private,
            warnings,
        })
    }

    pub(super) async fn call_apply(
        &self,
        type_name: &str,
        config: &Value,
        plan: &Planned,
        prior: Option<State>,
    ) -> Applied {
        let schema = self.schema(type_name);
        let ty = schema.ty();
        let prior_value = prior.as_ref().map_or(Value::Null, |prior| prior.value.clone());
        let known_by = prior.as_ref().and_then(|prior| prior.identity.clone());
        let request = proto::apply_resource_change::Request {
            type_name: type_name.to_owned(),
            prior_state: encoded(&prior_value, &ty),
            planned_state: encoded(&plan.planned, &ty),
            config: encoded(config, &ty),
            planned_private: plan.private.clone(),
            provider_meta: None,
            planned_identity: self.identity_data(type_name, known_by.as_ref()),
        };
        let response = call!(self, apply_resource_change, request);
        let diagnostics = diagnostics(response.diagnostics);
        let value = decoded(response.new_state, &ty);
        let failed = diagnostics.has_errors();
        assert!(value.is_wholly_known(), "{type_name} has unknown values after apply: {value}");
        assert_write_only_null(schema, &value, "state");
        if !failed {
            assert_conforms(&format!("the new state of {type_name}"), &ty, &plan.planned, &value);
        }
        if failed && value.is_null() {
            // Terraform keeps what it had.
            return Applied { state: prior, diagnostics };
        }
        let identity = match failed {
            true => self.identity(type_name, response.new_identity),
            false => {
                let before = known_by.as_ref();
                self.identity_after(type_name, &value, response.new_identity, before)
            }
        };
        let state = (!value.is_null()).then(|| State {
            type_name: type_name.to_owned(),
            value,
            tainted: failed && prior.is_none(),
            identity,
            private: response.private,
        });
        Applied { state, diagnostics }
    }

    pub(super) async fn call_delete(
        &self,
        type_name: &str,
        prior: Option<State>,
        private: Vec<u8>,
    ) -> Applied {
        let ty = self.schema(type_name).ty();
        let prior_value = prior.as_ref().map_or(Value::Null, |prior| prior.value.clone());
        let request = proto::apply_resource_change::Request {
            type_name: type_name.to_owned(),
            prior_state: encoded(&prior_value, &ty),
            planned_state: encoded(&Value::Null, &ty),
            config: encoded(&Value::Null, &ty),
            planned_private: private,
            ..Default::default()
        };
        let response = call!(self, apply_resource_change, request);
        let diagnostics = diagnostics(response.diagnostics);
        let value = decoded(response.new_state, &ty);
        if !diagnostics.has_errors() {
            assert!(
                value.is_null(),
                "inconsistent result: {type_name} was deleted and has a state"
            );
            return Applied { state: None, diagnostics };
        }
        let state = prior.map(|prior| match value {
            Value::Null => prior,
            value => State { value, private: response.private, ..prior },
        });
        Applied { state, diagnostics }
    }

    pub(super) async fn call_read(&self, state: &State) -> Result<Option<State>, Diagnostics> {
        let schema = self.schema(&state.type_name);
        let ty = schema.ty();
        let request = proto::read_resource::Request {
            type_name: state.type_name.clone(),
            current_state: encoded(&state.value, &ty),
            private: state.private.clone(),
            client_capabilities: self.client(),
            provider_meta: None,
            current_identity: self.identity_data(&state.type_name, state.identity.as_ref()),
        };
        let response = call!(self, read_resource, request);
        diagnostics(response.diagnostics).into_result()?;
        let value = decoded(response.new_state, &ty);
        assert!(value.is_wholly_known(), "{} is not wholly known after reading", state.type_name);
        assert_write_only_null(schema, &value, "state");
        let before = state.identity.as_ref();
        let identity = self.identity_after(&state.type_name, &value, response.new_identity, before);
        let read = State { value, identity, private: response.private, ..state.clone() };
        Ok((!read.value.is_null()).then_some(read))
    }

    pub(super) async fn call_import(
        &self,
        type_name: &str,
        id: &str,
        identity: Option<&Value>,
    ) -> Result<State, Diagnostics> {
        let request = proto::import_resource_state::Request {
            type_name: type_name.to_owned(),
            id: id.to_owned(),
            client_capabilities: self.client(),
            identity: self.identity_data(type_name, identity),
        };
        let response = call!(self, import_resource_state, request);
        diagnostics(response.diagnostics).into_result()?;
        let Some(imported) = response.imported_resources.into_iter().next() else {
            panic!("{type_name} was imported without an error and without a result");
        };
        let value = decoded(imported.state, &self.schema(type_name).ty());
        assert!(value.is_wholly_known(), "{type_name} has unknown values after import");
        let identity = self.identity_after(type_name, &value, imported.identity, None);
        Ok(State {
            type_name: imported.type_name,
            value,
            tainted: false,
            identity,
            private: imported.private,
        })
    }

    pub(super) async fn call_upgrade(
        &self,
        type_name: &str,
        version: i64,
        json: &serde_json::Value,
    ) -> Result<State, Diagnostics> {
        let raw_state =
            proto::RawState { json: json.to_string().into_bytes(), ..Default::default() };
        let request = proto::upgrade_resource_state::Request {
            type_name: type_name.to_owned(),
            version,
            raw_state: Some(raw_state),
        };
        let response = call!(self, upgrade_resource_state, request);
        diagnostics(response.diagnostics).into_result()?;
        let value = decoded(response.upgraded_state, &self.schema(type_name).ty());
        let type_name = type_name.to_owned();
        // The identity is stored, and upgraded, beside the state.
        Ok(State { type_name, value, tainted: false, identity: None, private: Vec::new() })
    }

    pub(super) async fn call_read_data(
        &self,
        type_name: &str,
        config: &Value,
    ) -> Result<Value, Diagnostics> {
        let ty = self.data_schema(type_name).ty();
        let request = proto::validate_data_resource_config::Request {
            type_name: type_name.to_owned(),
            config: encoded(config, &ty),
        };
        let response = call!(self, validate_data_resource_config, request);
        diagnostics(response.diagnostics).into_result()?;
        let request = proto::read_data_source::Request {
            type_name: type_name.to_owned(),
            config: encoded(config, &ty),
            client_capabilities: self.client(),
            ..Default::default()
        };
        let response = call!(self, read_data_source, request);
        diagnostics(response.diagnostics).into_result()?;
        let value = decoded(response.state, &ty);
        let broken = rules::contradictions(self.data_schema(type_name), config, config, &value);
        assert!(broken.is_empty(), "inconsistent result: {type_name} departs at {broken:?}");
        Ok(value)
    }

    pub(super) async fn call_function(
        &self,
        name: &str,
        arguments: Vec<Value>,
    ) -> Result<Value, FunctionError> {
        let signature = self.server.signature(name);
        let signature = signature.unwrap_or_else(|| panic!("the provider has no function {name}"));
        let one = |(index, argument): (usize, &Value)| {
            let parameter = signature.at(index);
            let parameter = parameter.unwrap_or_else(|| panic!("{name} has too many arguments"));
            encoded(argument, &parameter.ty)
        };
        let request = proto::call_function::Request {
            name: name.to_owned(),
            arguments: arguments.iter().enumerate().filter_map(one).collect(),
        };
        let response = call!(self, call_function, request);
        match response.error {
            Some(proto::FunctionError { text, function_argument }) => Err(FunctionError {
                argument: function_argument.and_then(|index| usize::try_from(index).ok()),
                text,
            }),
            None => Ok(decoded(response.result, &signature.returns)),
        }
    }

    pub(super) async fn call_open(
        &self,
        type_name: &str,
        config: &Value,
    ) -> Result<Ephemeral, Diagnostics> {
        let schema = self.ephemeral_schema(type_name);
        let ty = schema.ty();
        let request = proto::validate_ephemeral_resource_config::Request {
            type_name: type_name.to_owned(),
            config: encoded(config, &ty),
        };
        let response = call!(self, validate_ephemeral_resource_config, request);
        diagnostics(response.diagnostics).into_result()?;
        let request = proto::open_ephemeral_resource::Request {
            type_name: type_name.to_owned(),
            config: encoded(config, &ty),
            client_capabilities: self.client(),
        };
        let response = call!(self, open_ephemeral_resource, request);
        diagnostics(response.diagnostics).into_result()?;
        let value = decoded(response.result, &ty);
        let broken = rules::contradictions(schema, config, config, &value);
        assert!(broken.is_empty(), "inconsistent result: {type_name} departs at {broken:?}");
        Ok(Ephemeral {
            type_name: type_name.to_owned(),
            value,
            renew_at: response.renew_at.map(moment),
            private: response.private,
        })
    }

    pub(super) async fn call_renew(&self, opened: &mut Ephemeral) -> Result<(), Diagnostics> {
        let request = proto::renew_ephemeral_resource::Request {
            type_name: opened.type_name.clone(),
            private: opened.private.clone(),
        };
        let response = call!(self, renew_ephemeral_resource, request);
        diagnostics(response.diagnostics).into_result()?;
        opened.renew_at = response.renew_at.map(moment);
        opened.private = response.private;
        Ok(())
    }

    pub(super) async fn call_close(&self, opened: Ephemeral) -> Result<(), Diagnostics> {
        let Ephemeral { type_name, private, .. } = opened;
        let request = proto::close_ephemeral_resource::Request { type_name, private };
        let response = call!(self, close_ephemeral_resource, request);
        diagnostics(response.diagnostics).into_result().map(drop)
    }

    pub(super) async fn call_plan_action(
        &self,
        type_name: &str,
        config: &Value,
    ) -> Result<Diagnostics, Diagnostics> {
        let config = encoded(config, &self.action_schema(type_name).ty());
        let request = proto::validate_action_config::Request {
            type_name: type_name.to_owned(),
            config: config.clone(),
        };
        let response = call!(self, validate_action_config, request);
        let mut warnings = diagnostics(response.diagnostics).into_result()?;
        let request = proto::plan_action::Request {
            action_type: type_name.to_owned(),
            config,
            client_capabilities: self.client(),
        };
        let response = call!(self, plan_action, request);
        warnings.append(diagnostics(response.diagnostics).into_result()?);
        Ok(warnings)
    }

    pub(super) async fn call_invoke(&self, type_name: &str, config: &Value) -> Invoked {
        use proto::invoke_action::event::Type as Event;
        let request = proto::invoke_action::Request {
            action_type: type_name.to_owned(),
            config: encoded(config, &self.action_schema(type_name).ty()),
            client_capabilities: self.client(),
        };
        let answer = self.server.invoke_action(tonic::Request::new(over_the_wire(&request))).await;
        let mut events = match answer {
            Ok(response) => response.into_inner(),
            Err(status) => panic!("invoke_action failed: {status}"),
        };
        let mut progress = Vec::new();
        while let Some(event) = events.next().await {
            let event = event.unwrap_or_else(|status| panic!("the stream broke: {status}"));
            match over_the_wire(&event).r#type {
                Some(Event::Progress(event)) => progress.push(event.message),
                Some(Event::Completed(event)) => {
                    return Invoked { progress, diagnostics: diagnostics(event.diagnostics) };
                }
                None => panic!("an event says nothing"),
            }
        }
        panic!("{type_name} ended without saying that it is completed");
    }

    pub(super) async fn call_stop(&self) {
        let response = call!(self, stop_provider, proto::stop_provider::Request {});
        assert_eq!(response.error, "");
    }
}

#[track_caller]
fn assert_write_only_null(schema: &Schema, value: &Value, what: &str) {
    let set = rules::write_only_set(schema, value);
    assert!(set.is_empty(), "the {what} holds a value for the write-only attribute {}", set[0]);
}

impl Plan {
    /// The private state that goes along, for tests of the library itself.
    #[cfg(test)]
    pub(crate) fn private(&self) -> &[u8] {
        &self.private
    }
}
