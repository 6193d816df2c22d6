//! `weft.v1.Watch`.

use futures::StreamExt as _;
use tonic::{Request, Response, Status};
use weft_model::{Problem, Reason};
use weft_proto::v1;
use weft_store::{Event, Revision, StoreError};

use super::{Answers, Api, refuse};
use crate::repo::{OBJECTS, STATUSES, store_problem};

fn judge(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => refuse(
            Problem::new(Reason::OutOfRange, "the changes since that revision are gone")
                .at("from_revision")
                .remedy("list what there is, then watch from now on"),
        ),
        StoreError::FutureRevision { .. } => {
            refuse(Problem::new(Reason::InvalidArgument, error.to_string()).at("from_revision"))
        }
        other => refuse(store_problem(other)),
    }
}

/// An event as clients see it, if it is about an object. A status is a change of its instance.
fn change(event: &Event) -> Option<v1::WatchChange> {
    let key = event.key();
    let (kind, id, deleted) = match key.strip_prefix(STATUSES) {
        Some(id) => ("instances", id, false),
        None => {
            let (kind, id) = key.strip_prefix(OBJECTS)?.split_once('/')?;
            (kind, id, matches!(event, Event::Delete { .. }))
        }
    };
    if key.starts_with(STATUSES) && matches!(event, Event::Delete { .. }) {
        return None;
    }
    let revision = i64::try_from(event.revision().0).unwrap_or(i64::MAX);
    Some(v1::WatchChange { revision, kind: kind.to_owned(), id: id.to_owned(), deleted })
}

#[tonic::async_trait]
impl v1::watch_server::Watch for Api {
    type WatchStream = Answers<v1::WatchChange>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let v1::WatchRequest { from_revision, kinds } = request.into_inner();
        let store = self.context.repo.store();
        let after = match u64::try_from(from_revision) {
            Ok(0) => store.list("host").await.map_err(judge)?.revision,
            Ok(from) => Revision(from - 1),
            Err(_) => {
                let problem = Problem::invalid("from_revision", "a revision is not negative");
                return Err(refuse(problem));
            }
        };
        let events = store.watch_events("", after).await.map_err(judge)?;
        let changes = events.filter_map(move |event| {
            let answer = match event {
                Ok(event) => change(&event)
                    .filter(|change| kinds.is_empty() || kinds.contains(&change.kind))
                    .map(Ok),
                Err(error) => Some(Err(judge(error))),
            };
            std::future::ready(answer)
        });
        Ok(Response::new(changes.boxed()))
    }
}
