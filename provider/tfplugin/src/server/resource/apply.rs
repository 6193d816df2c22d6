//! ApplyResourceChange: create, update or delete, and what is saved when one of them fails.

use std::sync::Arc;

use super::{
    super::{Entry, Inner, guard::guard, wire},
    finished,
};
use crate::{
    cty::Value,
    diag::Diagnostics,
    plan as rules,
    private::Private,
    proto::apply_resource_change::{Request, Response},
    resource::{ApplyContext, Outcome, Resource},
    timeouts::Operation,
};

pub(in crate::server) async fn apply(inner: &Arc<Inner>, request: Request) -> Response {
    // An empty new state after an error makes Terraform keep the prior one.
    apply_inner(inner, request).await.unwrap_or_else(|diagnostics| Response {
        diagnostics: diagnostics.into_proto(),
        ..Response::default()
    })
}

async fn apply_inner(inner: &Arc<Inner>, request: Request) -> Result<Response, Diagnostics> {
    let Request {
        type_name,
        prior_state,
        planned_state,
        config,
        planned_private,
        planned_identity,
        provider_meta: _,
    } = request;
    let entry = inner.resources.get(&type_name)?;
    let known_by = entry.read_identity(&planned_identity)?;
    let prior = wire::decode(prior_state.as_ref(), &entry.ty, "prior state")?;
    let plan = wire::decode(planned_state.as_ref(), &entry.ty, "plan")?;
    let config = wire::decode(config.as_ref(), &entry.ty, "configuration")?;
    let private = Private::decode(&planned_private)?;
    let operation = match (prior.is_null(), plan.is_null()) {
        (true, _) => Operation::Create,
        (false, false) => Operation::Update,
        (false, true) => Operation::Delete,
    };

    inner.provider.on_apply();
    let outcome = Outcome::new(private);
    let mut ctx = ApplyContext {
        operation,
        config,
        plan,
        prior: prior.clone(),
        cancel: inner.cancel(),
        outcome: outcome.clone(),
    };
    let resource = entry.clone();
    let work = async move {
        match operation {
            Operation::Update => resource.it.update(&mut ctx).await,
            Operation::Delete => resource.it.delete(&mut ctx).await,
            Operation::Create | Operation::Read => resource.it.create(&mut ctx).await,
        }
    };
    let doing = match operation {
        Operation::Update => "updating",
        Operation::Delete => "deleting",
        Operation::Create | Operation::Read => "creating",
    };
    let result = match guard(&format!("{doing} {type_name}"), work).await {
        Ok(result) => result,
        Err(panicked) => Err(panicked.into()),
    };
    response(&entry, operation, &prior, known_by.as_ref(), result, &outcome)
}

/// What is saved. After an error: what the operation handed over so far, else the prior state
/// (null for a creation; a creation that did hand something over is saved as tainted).
fn response(
    entry: &Entry<dyn Resource>,
    operation: Operation,
    prior: &Value,
    known_by: Option<&Value>,
    result: Result<(), Diagnostics>,
    outcome: &Outcome,
) -> Result<Response, Diagnostics> {
    let produced = outcome.take();
    let mut diagnostics = produced.warnings;
    let partial = produced.state.clone();
    let state = match result {
        Ok(()) if operation == Operation::Delete => Ok(Value::Null),
        Ok(()) => finished(entry, produced.state, operation.name()).map_err(Diagnostics::from),
        Err(errors) => Err(errors),
    };
    let state = state.unwrap_or_else(|errors| {
        diagnostics.append(errors);
        let partial = partial.unwrap_or_else(|| prior.clone());
        rules::known_part(&rules::storable(&entry.schema, &partial))
    });
    let new_state = match wire::encode(&state, &entry.ty, "state") {
        Ok(encoded) => encoded,
        Err(unencodable) => {
            // Better the state before than none: losing it would orphan the object.
            diagnostics.push(unencodable);
            wire::encode(prior, &entry.ty, "state")?
        }
    };
    // What is saved after an error may not have one yet.
    let known_by = known_by.filter(|_| operation == Operation::Update);
    let identity = if diagnostics.has_errors() {
        known_by.cloned().or_else(|| entry.identity.as_ref().and_then(|schema| schema.of(&state)))
    } else {
        entry.identity_of(&state, known_by, operation.name()).unwrap_or_else(|wrong| {
            diagnostics.push(wrong);
            known_by.cloned()
        })
    };
    let private = if state.is_null() { Vec::new() } else { produced.private.encode() };
    Ok(Response {
        new_state: Some(new_state),
        private,
        diagnostics: diagnostics.into_proto(),
        new_identity: entry.write_identity(identity.as_ref().filter(|_| state.is_set()))?,
    })
}
