//! ValidateListResourceConfig and ListResource.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, codegen::BoxStream};

use super::{Entry, Inner, guard::guard, provider::flatten, wire};
use crate::{
    diag::{Diagnostic, Diagnostics},
    list::{ListContext, Row},
    plan,
    proto::{
        list_resource::{Event, Request},
        validate_list_resource_config,
    },
    provider::ClientCapabilities,
    resource::{Resource, ValidateContext},
};

/// What Terraform has not taken yet; the rest waits in front of it.
const UNTAKEN: usize = 1;

pub(super) async fn validate(
    inner: &Arc<Inner>,
    request: validate_list_resource_config::Request,
) -> validate_list_resource_config::Response {
    let this = inner.clone();
    let what = format!("validating the list of {}", request.type_name);
    let work = async move {
        let entry = this.list_resources.get(&request.type_name)?;
        let config = wire::decode(request.config.as_ref(), &entry.ty, "configuration")?;
        // Without a config block it is null.
        let config = entry.schema.complete(&config);
        let mut diagnostics = entry.schema.validate(&config);
        let ctx = ValidateContext { config, client: ClientCapabilities::default() };
        diagnostics.append(entry.it.validate(&ctx).await);
        Ok::<_, Diagnostics>(diagnostics)
    };
    let diagnostics = flatten(guard(&what, work).await);
    validate_list_resource_config::Response { diagnostics: diagnostics.into_proto() }
}

/// The stream ends with the list, at an error, or when Terraform goes away.
pub(super) fn list(inner: &Arc<Inner>, request: Request) -> BoxStream<Event> {
    let (events, taken) = mpsc::channel(UNTAKEN);
    let this = inner.clone();
    tokio::spawn(async move {
        if let Err(diagnostics) = list_inner(&this, request, &events).await {
            let failed = Event { diagnostic: diagnostics.into_proto(), ..Event::default() };
            // Nobody is left to tell when Terraform is gone.
            let _ = events.send(Ok(failed)).await;
        }
    });
    Box::pin(ReceiverStream::new(taken))
}

async fn list_inner(
    inner: &Arc<Inner>,
    request: Request,
    events: &mpsc::Sender<Result<Event, Status>>,
) -> Result<(), Diagnostics> {
    let Request { type_name, config, include_resource_object, limit } = request;
    let entry = inner.list_resources.get(&type_name)?;
    let resource = inner.resources.get(&type_name)?;
    let config = wire::decode(config.as_ref(), &entry.ty, "configuration")?;
    let config = plan::with_defaults(&entry.schema, &entry.schema.complete(&config));
    let cancel = inner.cancel().child_token();
    let (mut ctx, rows) = ListContext::new(config, limit, cancel.clone());
    let work = async move { entry.it.list(&mut ctx).await };
    let what = format!("listing {type_name}");
    let forwarding = async {
        let forwarded = forward(&resource, rows, include_resource_object, events).await;
        // The list has ended, or nobody wants more of it.
        cancel.cancel();
        forwarded
    };
    let (forwarded, listed) = tokio::join!(forwarding, guard(&what, work));
    forwarded?;
    listed?
}

async fn forward(
    resource: &Entry<dyn Resource>,
    mut rows: mpsc::Receiver<Row>,
    include_resource_object: bool,
    events: &mpsc::Sender<Result<Event, Status>>,
) -> Result<(), Diagnostic> {
    loop {
        let row = tokio::select! {
            row = rows.recv() => row,
            () = events.closed() => return Ok(()),
        };
        let Some(row) = row else { return Ok(()) };
        let event = event(resource, row, include_resource_object)?;
        if events.send(Ok(event)).await.is_err() {
            return Ok(());
        }
    }
}

fn event(
    resource: &Entry<dyn Resource>,
    row: Row,
    include_resource_object: bool,
) -> Result<Event, Diagnostic> {
    let (display_name, state) = match row {
        Row::Object { name, state } => (name, state),
        Row::Warning(warning) => {
            let diagnostic = Diagnostics::from(warning).into_proto();
            return Ok(Event { diagnostic, ..Event::default() });
        }
    };
    let state = super::resource::finished(resource, Some(state), "list")?;
    let identity = resource.identity_of(&state, None, "list")?;
    let object = || wire::encode(&state, &resource.ty, "state");
    Ok(Event {
        identity: resource.write_identity(identity.as_ref())?,
        display_name,
        resource_object: include_resource_object.then(object).transpose()?,
        diagnostic: Vec::new(),
    })
}
