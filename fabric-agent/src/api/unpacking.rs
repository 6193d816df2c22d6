//! `Images.Unpack`: the disk in a compressed file, and how far it has come out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};
use weft_images::BlobError;
use weft_model::{Digest, Problem, Reason};
use weft_planner::Action;
use weft_proto::v1;

use super::images::{digest, not_there};
use super::{Answers, refuse};
use crate::context::Context;
use crate::host::{HostError, UploadState};

/// Between two events: people do not read faster.
const EVENT_EVERY: Duration = Duration::from_millis(250);
/// How often a disk is unpacked that a sweep takes away before it is known to be kept.
const ATTEMPTS: u32 = 3;

/// The blob of the disk that came as `source`: what is packed in it, or itself. Kept, and there.
pub(super) async fn unpacked(context: &Context, source: Digest) -> Result<Digest, Problem> {
    let pins = &context.reconciler.pins;
    for _ in 0..ATTEMPTS {
        pins.keep([source]).await;
        if !is_there(context, &source).await? {
            return Err(not_there(source));
        }
        let action = Action::UnpackBlob { digest: source, max_bytes: context.fetches.max_bytes() };
        pins.keep_during(source, context.host.apply(&action)).await.map_err(refused)?;
        let disk = context.host.unpacked(&source).unwrap_or(source);
        pins.keep([disk]).await;
        // Until it was kept it was nobody's.
        if is_there(context, &disk).await? {
            return Ok(disk);
        }
    }
    let message = format!("the disk in the file {source} was removed each time it was unpacked");
    Err(Problem::new(Reason::Unavailable, message).at("disk_sha256").remedy("apply again"))
}

async fn is_there(context: &Context, digest: &Digest) -> Result<bool, Problem> {
    let state = context.host.upload_state(digest).await.map_err(|error| error.problem())?;
    Ok(state == UploadState::Complete)
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
