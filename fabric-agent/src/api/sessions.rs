//! `weft.v1.Sessions`.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;
use v1::session_event::Event;
use v1::session_request::Request as Message;
use weft_model::Problem;
use weft_proto::v1;

use super::{Answers, Api, parse_id, refuse};

#[tonic::async_trait]
impl v1::sessions_server::Sessions for Api {
    type OpenStream = Answers<v1::SessionEvent>;

    async fn open(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let mut messages = request.into_inner();
        let hello = match messages.message().await? {
            Some(v1::SessionRequest { request: Some(Message::Hello(hello)) }) => hello,
            _ => {
                let problem = Problem::invalid("hello", "a session begins with hello");
                return Err(refuse(problem));
            }
        };
        let v1::SessionHello { client, session_id } = hello;
        let again = match session_id.as_str() {
            "" => None,
            text => Some(parse_id(text)?),
        };
        let session = self.context.sessions.open(again);
        tracing::info!(session.id = %session.id(), client, "session opened");
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let opened = v1::SessionOpened {
            session_id: session.id().to_string(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let event = |event| Ok(v1::SessionEvent { event: Some(event) });
        if sender.send(event(Event::Opened(opened))).await.is_err() {
            return Err(Status::cancelled("the client is gone"));
        }
        let context = self.context.clone();
        let ending = async move {
            // The session dies with this task, unless it is ended gracefully first.
            let graceful = loop {
                match messages.message().await {
                    Ok(Some(v1::SessionRequest { request: Some(Message::End(_)) })) => break true,
                    Ok(Some(_)) => {}
                    // A half-closed stream is no End: the client may have been killed.
                    Ok(None) | Err(_) => break false,
                }
            };
            if graceful {
                if let Err(problem) = context.claim_all_of(session.id()).await {
                    tracing::warn!(session.id = %session.id(), error = %problem, "claiming failed");
                }
                let _ = sender.send(event(Event::Ended(v1::SessionEnded {}))).await;
            }
            tracing::info!(session.id = %session.id(), client, graceful, "session ended");
        };
        tokio::spawn(ending.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
