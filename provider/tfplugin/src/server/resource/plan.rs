//! PlanResourceChange.

use std::sync::Arc;

use super::super::{Inner, guard::guard, wire};
use crate::{
    diag::{self, Diagnostic, Diagnostics},
    plan as rules,
    private::Private,
    proto::plan_resource_change::{Request, Response},
    resource::{DestroyPlanContext, PlanContext},
};

pub(in crate::server) async fn plan(inner: &Arc<Inner>, request: Request) -> Response {
    let this = inner.clone();
    let what = format!("planning {}", request.type_name);
    let failed = |diagnostics: Diagnostics| Response {
        diagnostics: diagnostics.into_proto(),
        ..Response::default()
    };
    match guard(&what, async move { plan_inner(&this, request).await }).await {
        Ok(Ok(response)) => response,
        Ok(Err(diagnostics)) => failed(diagnostics),
        Err(panicked) => failed(panicked.into()),
    }
}

async fn plan_inner(inner: &Inner, request: Request) -> Result<Response, Diagnostics> {
    let Request {
        type_name,
        prior_state,
        proposed_new_state,
        config,
        prior_private,
        client_capabilities,
        provider_meta: _,
        prior_identity,
    } = request;
    let entry = inner.resources.get(&type_name)?;
    let (schema, ty) = (&entry.schema, &entry.ty);
    let prior = wire::decode(prior_state.as_ref(), ty, "prior state")?;
    let config = wire::decode(config.as_ref(), ty, "configuration")?;
    let private = Private::decode(&prior_private)?;
    let (client, cancel) = (client_capabilities.into(), inner.cancel());

    // What Terraform proposes only tells whether to destroy; the rest is our own rules.
    if wire::decode(proposed_new_state.as_ref(), ty, "proposed state")?.is_null() {
        let diagnostics = Diagnostics::new();
        let mut ctx = DestroyPlanContext { prior, private, client, cancel, diagnostics };
        let result = entry.it.plan_destroy(&mut ctx).await;
        let mut diagnostics = ctx.diagnostics;
        if let Err(errors) = result {
            diagnostics.append(errors);
        }
        return Ok(Response {
            planned_state: proposed_new_state,
            planned_private: ctx.private.encode(),
            planned_identity: prior_identity,
            diagnostics: diagnostics.into_result()?.into_proto(),
            ..Response::default()
        });
    }

    let mut ctx = PlanContext {
        plan: rules::propose(schema, &config, &prior),
        config,
        prior,
        private,
        client,
        cancel,
        replace: Vec::new(),
        diagnostics: Diagnostics::new(),
    };
    let result = entry.it.modify_plan(&mut ctx).await;
    let PlanContext { plan, config, prior, private, mut replace, mut diagnostics, .. } = ctx;
    if let Err(errors) = result {
        diagnostics.append(errors);
    }
    let mut diagnostics = diagnostics.into_result()?;

    let plan = rules::storable(schema, &plan);
    for path in rules::contradictions(schema, &config, &prior, &plan) {
        diagnostics.push(
            Diagnostic::provider_bug(
                format!("The plan departs from the configuration at {path}"),
                format!("the provider planned another value for {path} than is configured"),
            )
            .at(path),
        );
    }
    let diagnostics = diagnostics.into_result()?;

    replace.extend(rules::replacements(schema, &prior, &plan));
    // On creation there is nothing to replace.
    replace.retain(|path| prior.is_set() && plan.get(path) != prior.get(path));
    replace.sort();
    replace.dedup();
    Ok(Response {
        planned_state: Some(wire::encode(&plan, ty, "plan")?),
        requires_replace: replace.iter().map(diag::path_to_proto).collect(),
        planned_private: private.encode(),
        // As it is now, and for a creation not known yet. A replacement is planned anew.
        planned_identity: prior_identity.filter(|_| prior.is_set()),
        diagnostics: diagnostics.into_proto(),
        ..Response::default()
    })
}
