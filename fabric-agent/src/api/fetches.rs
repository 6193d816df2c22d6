//! `Images.Fetch`: following a download.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};
use weft_model::{BlobRole, Checksum, InvalidImageUrl, Problem};
use weft_proto::v1;

use super::{Answers, refuse};
use crate::context::Context;
use crate::fetches::{Fetches, Progress, Wanted};

/// Between two events: people do not read faster.
const EVENT_EVERY: Duration = Duration::from_millis(250);

fn parse(request: v1::FetchRequest) -> Result<Wanted, Problem> {
    let v1::FetchRequest { url, sha256, role, sha512 } = request;
    let url =
        url.parse().map_err(|error: InvalidImageUrl| Problem::invalid("url", error.to_string()))?;
    let role = role.parse::<BlobRole>().map_err(|problem| problem.at("role"))?;
    let checksum = Checksum::from_fields(&sha256, &sha512).map_err(|error| {
        let field = if sha512.is_empty() { "sha256" } else { "sha512" };
        Problem::invalid(field, error.to_string())
    })?;
    Ok(Wanted { url, checksum, role })
}

/// Reads a publisher's list of digests.
pub(super) async fn find_checksum(
    context: &Context,
    request: v1::FindChecksumRequest,
) -> Result<v1::FindChecksumResponse, Problem> {
    let v1::FindChecksumRequest { url, file_name } = request;
    let url =
        url.parse().map_err(|error: InvalidImageUrl| Problem::invalid("url", error.to_string()))?;
    let found = context.fetches.find_checksum(&url, &file_name).await?;
    let (sha256, sha512) = found.to_fields();
    Ok(v1::FindChecksumResponse { sha256, sha512 })
}

/// Follows the download until it has ended; it does not end because this client goes away.
pub(super) fn fetch(
    context: &Context,
    request: v1::FetchRequest,
) -> Result<Response<Answers<v1::FetchEvent>>, Problem> {
    let wanted = parse(request)?;
    let fetches = Arc::clone(&context.fetches);
    let (events, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = events.closed() => {}
            ended = follow(&fetches, &wanted, &events) => {
                let last = ended.map(|progress| event(&progress, true)).map_err(refuse);
                // A client that has gone hears nothing.
                let _ = events.send(last).await;
            }
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

async fn follow(
    fetches: &Arc<Fetches>,
    wanted: &Wanted,
    events: &mpsc::Sender<Result<v1::FetchEvent, Status>>,
) -> Result<Progress, Problem> {
    loop {
        let mut asker = fetches.ask(wanted);
        loop {
            let progress = asker.progress.borrow_and_update().clone();
            match progress.outcome.clone() {
                Some(Ok(_)) => return Ok(progress),
                // Somebody else's URL was at fault; ours may be better.
                Some(Err(_)) if asker.url != wanted.url => break,
                Some(Err(problem)) => return Err(problem),
                None => {
                    let _ = events.send(Ok(event(&progress, false))).await;
                }
            }
            if asker.progress.changed().await.is_err() {
                break;
            }
            // The last word is not held back.
            let ended = async {
                let _ = asker.progress.wait_for(|progress| progress.outcome.is_some()).await;
            };
            let _ = tokio::time::timeout(EVENT_EVERY, ended).await;
        }
    }
}

fn event(progress: &Progress, done: bool) -> v1::FetchEvent {
    v1::FetchEvent {
        received_bytes: progress.received_bytes,
        total_bytes: progress.total_bytes,
        trouble: progress.trouble.clone().unwrap_or_default(),
        done,
        sha256: match &progress.outcome {
            Some(Ok(blob)) => blob.to_string(),
            _ => String::new(),
        },
    }
}
