//! Changes that the fake agent tells of.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status};
use weft_proto::v1;

use super::{Shared, World};

type Changes = UnboundedReceiverStream<Result<v1::WatchChange, Status>>;
pub(crate) type Watcher = mpsc::UnboundedSender<Result<v1::WatchChange, Status>>;

impl World {
    /// Tells those who watch that the object is another one now.
    pub(crate) fn tell(&mut self, kind: &str, id: &str) {
        self.revision += 1;
        let (revision, kind, id) = (self.revision, kind.to_owned(), id.to_owned());
        let change = v1::WatchChange { revision, kind, id, deleted: false };
        self.watchers.retain(|watcher| watcher.send(Ok(change.clone())).is_ok());
    }
}

#[tonic::async_trait]
impl v1::watch_server::Watch for Shared {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchChange, Status>> + Send>>;

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut world = self.lock();
        world.calls.push("Watch.Watch");
        if let Some(left) = world.watches_break.checked_sub(1) {
            world.watches_break = left;
            return Ok(Response::new(Box::pin(tokio_stream::empty())));
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        world.watchers.push(sender);
        Ok(Response::new(Box::pin(Changes::new(receiver))))
    }
}
