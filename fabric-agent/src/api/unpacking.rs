//! `Images.Unpack`: the disk in a compressed file, and how far it has come out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};
use weft_images::BlobError;
use weft_model::{Digest, Problem};
use weft_planner::Action;
use weft_proto::v1;

use super::images::{digest, not_there};
use super::{Answers, refuse};
use crate::context::Context;
use crate::host::{HostError, UploadState};

/// Between two events: people do not read faster.
const EVENT_EVERY: Duration = Duration::from_millis(250);

/// The blob of the disk that came as `source`: what is packed in it, or itself. Pinned, and there
/// when this was called under the pins' promise.
pub(super) async fn unpacked(context: &Context, source: Digest) -> Result<Digest, Problem> {
    if let UploadState::Partial { .. } =
        context.host.upload_state(&source).await.map_err(|error| error.problem())?
    {
        return Err(not_there(source));
    }
    context.reconciler.pins.pin(source);
    let action = Action::UnpackBlob { digest: source, max_bytes: context.fetches.max_bytes() };
    context.host.apply(&action).await.map_err(refused)?;
    let made = context.host.unpacked(&source).await.map_err(|error| error.problem())?;
    let disk = made.unwrap_or(source);
    context.reconciler.pins.pin(disk);
    Ok(disk)
}

/// What is in it is the user's file's fault, unless the host's disk is full or broken.
fn refused(error: HostError) -> Problem {
    let problem = error.problem();
    match error.cause() {
        Some(
            BlobError::NotUnpacked { .. }
            | BlobError::UnpacksTooLarge { .. }
            | BlobError::NotAnImage { .. },
        ) => problem.at("source_path"),
        _ => problem,
    }
}

/// Follows the unpacking to its end; it does not end because this client goes away.
pub(super) fn unpack(
    context: Arc<Context>,
    request: v1::UnpackRequest,
) -> Result<Response<Answers<v1::UnpackEvent>>, Problem> {
    let source = digest(&request.sha256)?;
    let (events, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let unpacking = unpacked(&context, source);
        tokio::pin!(unpacking);
        let mut tick = tokio::time::interval(EVENT_EVERY);
        let ended = loop {
            tokio::select! {
                ended = &mut unpacking => break ended,
                _ = tick.tick() => {
                    let told = context.host.unpack_progress(&source).unwrap_or_default();
                    let event = v1::UnpackEvent {
                        read_bytes: told.read_bytes,
                        total_bytes: told.total_bytes,
                        ..v1::UnpackEvent::default()
                    };
                    // A client that has gone hears nothing.
                    let _ = events.try_send(Ok(event));
                }
            }
        };
        let last: Result<_, Status> = ended.map_err(refuse).map(|disk| v1::UnpackEvent {
            done: true,
            unpacked_sha256: disk.to_string(),
            ..v1::UnpackEvent::default()
        });
        let _ = events.send(last).await;
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}
