//! ValidateActionConfig, PlanAction and InvokeAction.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::{Stream, wrappers::UnboundedReceiverStream};
use tonic::Status;

use super::{Entry, Inner, guard::guard, provider::flatten, validation, wire};
use crate::{
    action::{Action, ActionContext, ActionPlanContext},
    cty::Value,
    diag::{Diagnostic, Diagnostics},
    plan as rules,
    proto::{self, invoke_action, invoke_action::event, plan_action, validate_action_config},
};

pub(super) async fn validate(
    inner: &Arc<Inner>,
    request: validate_action_config::Request,
) -> validate_action_config::Response {
    let validate_action_config::Request { type_name, config } = request;
    let diagnostics = validation::validate(inner, |all| &all.actions, type_name, config).await;
    validate_action_config::Response { diagnostics }
}

pub(super) async fn plan(
    inner: &Arc<Inner>,
    request: plan_action::Request,
) -> plan_action::Response {
    let this = inner.clone();
    let what = format!("planning {}", request.action_type);
    let work = async move {
        let plan_action::Request { action_type, config, client_capabilities } = request;
        let (entry, config) = decode(&this, &action_type, config.as_ref())?;
        let mut ctx = ActionPlanContext {
            config,
            client: client_capabilities.into(),
            cancel: this.cancel(),
            warnings: Diagnostics::new(),
        };
        let result = entry.it.plan(&mut ctx).await;
        let mut diagnostics = ctx.warnings;
        diagnostics.append(result.err().unwrap_or_default());
        Ok::<_, Diagnostics>(diagnostics)
    };
    let diagnostics = flatten(guard(&what, work).await);
    plan_action::Response { diagnostics: diagnostics.into_proto(), deferred: None }
}

/// The action goes on when nobody reads the stream any more.
pub(super) fn invoke(
    inner: &Arc<Inner>,
    request: invoke_action::Request,
) -> impl Stream<Item = Result<invoke_action::Event, Status>> + Send + use<> {
    let this = inner.clone();
    let (events, receiver) = unbounded_channel();
    let what = format!("invoking {}", request.action_type);
    tokio::spawn(async move {
        let (progress, lines) = unbounded_channel();
        let forwarding = tokio::spawn(forward(lines, events.clone()));
        let work = async move { invoke_inner(&this, request, progress).await };
        let diagnostics = flatten(guard(&what, work).await);
        // Ends by itself: the action was the one who told of progress.
        let _ = forwarding.await;
        let completed = event::Completed { diagnostics: diagnostics.into_proto() };
        let _ = events.send(Ok(made(event::Type::Completed(completed))));
    });
    UnboundedReceiverStream::new(receiver)
}

async fn forward(
    mut lines: UnboundedReceiver<String>,
    events: UnboundedSender<Result<invoke_action::Event, Status>>,
) {
    while let Some(message) = lines.recv().await {
        let _ = events.send(Ok(made(event::Type::Progress(event::Progress { message }))));
    }
}

fn made(event: event::Type) -> invoke_action::Event {
    invoke_action::Event { r#type: Some(event) }
}

async fn invoke_inner(
    inner: &Inner,
    request: invoke_action::Request,
    progress: UnboundedSender<String>,
) -> Result<Diagnostics, Diagnostics> {
    let invoke_action::Request { action_type, config, client_capabilities } = request;
    let (entry, config) = decode(inner, &action_type, config.as_ref())?;
    if !config.is_wholly_known() {
        return Err(Diagnostic::error(format!("{action_type} cannot be carried out"))
            .cause("its configuration is not known yet")
            .into());
    }
    inner.provider.on_apply();
    let mut ctx = ActionContext {
        config,
        client: client_capabilities.into(),
        cancel: inner.cancel(),
        warnings: Diagnostics::new(),
        progress,
    };
    let result = entry.it.invoke(&mut ctx).await;
    let mut diagnostics = ctx.warnings;
    diagnostics.append(result.err().unwrap_or_default());
    Ok(diagnostics)
}

fn decode(
    inner: &Inner,
    action_type: &str,
    config: Option<&proto::DynamicValue>,
) -> Result<(Arc<Entry<dyn Action>>, Value), Diagnostic> {
    let entry = inner.actions.get(action_type)?;
    let config = wire::decode(config, &entry.ty, "configuration")?;
    let config = rules::with_defaults(&entry.schema, &config);
    Ok((entry, config))
}
