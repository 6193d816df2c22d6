//! `Images.WatchTransfers`: what comes to the agent, as people look at it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};
use weft_proto::v1;

use super::Answers;
use crate::context::Context;
use crate::transfers::{Seen, Stage, Transfer, Way};

/// Between two events: people do not read faster.
const EVENT_EVERY: Duration = Duration::from_millis(250);

/// What is under way, then what has changed since, until the client goes away. A client that does not read
/// keeps nobody: it misses what was in between, never how a transfer ended.
pub(super) fn watch(context: &Context) -> Response<Answers<v1::TransfersEvent>> {
    let mut seen = context.transfers.subscribe();
    let (events, receiver) = mpsc::channel::<Result<_, Status>>(1);
    tokio::spawn(async move {
        let mut told = None;
        loop {
            let (event, upto) = changed(&seen.borrow_and_update(), told);
            // The agent's end closes no channel of transfers: the client's does.
            if events.send(Ok(event)).await.is_err() {
                return;
            }
            told = Some(upto);
            tokio::select! {
                () = events.closed() => return,
                () = tokio::time::sleep(EVENT_EVERY) => {}
            }
            tokio::select! {
                () = events.closed() => return,
                changed = seen.changed() => if changed.is_err() { return },
            }
        }
    });
    Response::new(Box::pin(ReceiverStream::new(receiver)))
}

/// What has changed since the change `told`; at first, what is under way.
fn changed(seen: &Seen, told: Option<u64>) -> (v1::TransfersEvent, u64) {
    let is_news = |transfer: &Transfer| match told {
        Some(told) => transfer.changed > told,
        None => transfer.stage == Stage::Running,
    };
    let news = seen.transfers.iter().filter(|(_, transfer)| is_news(transfer));
    let items = news.map(|(id, transfer)| wire(*id, transfer)).collect();
    (v1::TransfersEvent { items }, seen.changes)
}

fn wire(id: u64, transfer: &Transfer) -> v1::Transfer {
    let Transfer { way, name, received_bytes, total_bytes, trouble, stage, changed: _ } = transfer;
    let (state, reason) = match stage {
        Stage::Running => ("running", trouble.clone()),
        Stage::Done => ("done", None),
        Stage::Failed(why) => ("failed", Some(why.clone())),
    };
    v1::Transfer {
        id,
        way: match way {
            Way::Download => "download",
            Way::Upload => "upload",
        }
        .to_owned(),
        name: name.clone(),
        received_bytes: *received_bytes,
        total_bytes: *total_bytes,
        state: state.to_owned(),
        reason: reason.unwrap_or_default(),
    }
}
