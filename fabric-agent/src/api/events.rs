//! `weft.v1.Events`.

use futures::StreamExt as _;
use futures::stream;
use tonic::{Request, Response, Status};
use weft_model::{Event, Problem};
use weft_proto::convert::event_to_wire;
use weft_proto::v1;

use super::{Answers, Api, refuse};
use crate::events::{follow, list};

/// Whether the event is about what was asked for.
fn is_about(event: &Event, subject: &str) -> bool {
    subject.is_empty() || event.subject == subject
}

#[tonic::async_trait]
impl v1::events_server::Events for Api {
    type FollowStream = Answers<v1::Event>;

    async fn list(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let v1::ListEventsRequest { subject } = request.into_inner();
        let (events, _) = list(&self.context.repo).await.map_err(refuse)?;
        let items = events.into_iter().filter(|event| is_about(event, &subject));
        Ok(Response::new(v1::ListEventsResponse { items: items.map(event_to_wire).collect() }))
    }

    async fn follow(
        &self,
        request: Request<v1::FollowEventsRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let v1::FollowEventsRequest { subject, after_number } = request.into_inner();
        let repo = &self.context.repo;
        let (kept, revision) = list(repo).await.map_err(refuse)?;
        let wanted = move |event: &Event| after_number.is_some_and(|after| event.number > after);
        let kept = kept.into_iter().filter(wanted).map(Ok::<_, Problem>);
        let news = follow(repo, revision).await.map_err(refuse)?;
        let answers = stream::iter(kept).chain(news).filter_map(move |event| {
            let answer = match event {
                Ok(event) => is_about(&event, &subject).then(|| Ok(event_to_wire(event))),
                Err(problem) => Some(Err(refuse(problem))),
            };
            std::future::ready(answer)
        });
        Ok(Response::new(answers.boxed()))
    }
}
