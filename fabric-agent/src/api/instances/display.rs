//! What an instance's display shows.

use tonic::{Response, Status, Streaming};
use weft_model::{InstanceId, Problem, Reason};
use weft_proto::v1;

use super::super::{Answers, parse_id, refuse, streams};
use crate::context::Context;
use crate::host::HostError;
use crate::repo::Instances;

/// Bytes in one message.
const CHUNK_BYTES: usize = 256 * 1024;

pub(super) async fn screenshot(
    context: &Context,
    id: &str,
) -> Result<Response<Answers<v1::ByteChunk>>, Status> {
    let id: InstanceId = parse_id(id)?;
    check(context, &id).await.map_err(refuse)?;
    let picture = context.host.screenshot(&id).await;
    let picture = picture.map_err(|error| refuse(not_shown(context, &id, &error)))?;
    let chunks = picture.chunks(CHUNK_BYTES).map(|data| Ok(v1::ByteChunk { data: data.to_vec() }));
    let chunks: Vec<Result<v1::ByteChunk, Status>> = chunks.collect();
    Ok(Response::new(Box::pin(futures::stream::iter(chunks))))
}

/// Root's eyes and hands, beside the guest's own logins: so it is logged.
pub(super) async fn open(
    context: &Context,
    mut input: Streaming<v1::DisplayInput>,
) -> Result<Response<Answers<v1::ByteChunk>>, Status> {
    let missing = || refuse(Problem::invalid("id", "the first message has to name the instance"));
    let v1::DisplayInput { id, data } = input.message().await?.ok_or_else(missing)?;
    let id: InstanceId = parse_id(&id)?;
    check(context, &id).await.map_err(refuse)?;
    tracing::info!(instance.id = %id, "a client opens a display");
    let stream = context.host.open_display(&id).await;
    let stream = stream.map_err(|error| refuse(not_shown(context, &id, &error)))?;
    Ok(streams::display(stream, data, input))
}

/// What can be said without asking the guest.
async fn check(context: &Context, id: &InstanceId) -> Result<(), Problem> {
    let spec = context.repo.get::<Instances>(id).await?.value.spec;
    if !spec.display {
        let message = format!("instance {id} has no display");
        return Err(Problem::new(Reason::FailedPrecondition, message).at("display").remedy(
            format!(
                "set display = true, which restarts it; weft console {id} is its serial console"
            ),
        ));
    }
    let state = context.repo.status(id).await?.map(|status| status.state);
    match state.filter(|state| state.is_off()) {
        None => Ok(()),
        Some(state) => {
            let message = format!("instance {id} is {state}: its display shows nothing");
            Err(Problem::new(Reason::FailedPrecondition, message)
                .remedy(format!("weft start {id} switches it on")))
        }
    }
}

/// It may be about to start, or to be started anew with the display that it has just got.
fn not_shown(context: &Context, id: &InstanceId, error: &HostError) -> Problem {
    let state = context.cache.read().statuses.get(id).map(|status| status.state.as_str());
    let problem = error.problem().evidence(format!("the instance is {}", state.unwrap_or("new")));
    problem.remedy(format!("weft get {id} shows what it does; try again once it runs"))
}
