//! The services that go-plugin expects beside the provider: controller, stdio and broker.

use std::{future::Future, sync::Arc};

use tokio::sync::Notify;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::proto::{
    ConnInfo, Empty, StdioData,
    grpc_broker_server::{GrpcBroker, GrpcBrokerServer},
    grpc_controller_server::{GrpcController, GrpcControllerServer},
    grpc_stdio_server::{GrpcStdio, GrpcStdioServer},
};

#[derive(Debug, Clone)]
pub(super) struct Services {
    /// Ends the idle streams, so that the server can drain.
    done: CancellationToken,
    shutdown_asked: Arc<Notify>,
}

impl Services {
    pub(super) fn new(done: CancellationToken) -> Self {
        Self { done, shutdown_asked: Arc::default() }
    }

    pub(super) fn controller(&self) -> GrpcControllerServer<Self> {
        GrpcControllerServer::new(self.clone())
    }

    pub(super) fn stdio(&self) -> GrpcStdioServer<Self> {
        GrpcStdioServer::new(self.clone())
    }

    pub(super) fn broker(&self) -> GrpcBrokerServer<Self> {
        GrpcBrokerServer::new(self.clone())
    }

    /// Resolves when Terraform has called Shutdown.
    pub(super) fn shutdown_asked(&self) -> impl Future<Output = ()> + use<> {
        let asked = self.shutdown_asked.clone();
        async move { asked.notified().await }
    }

    /// A stream on which nothing ever comes.
    fn idle<T: Send + 'static>(&self) -> BoxStream<T> {
        let done = self.done.clone();
        let (hold_open, nothing) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = done.cancelled() => {}
                () = hold_open.closed() => {}
            }
        });
        Box::pin(ReceiverStream::new(nothing).map(Ok))
    }
}

#[tonic::async_trait]
impl GrpcController for Services {
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.shutdown_asked.notify_one();
        Ok(Response::new(Empty {}))
    }
}

#[tonic::async_trait]
impl GrpcStdio for Services {
    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<BoxStream<StdioData>>, Status> {
        // stdout is the handshake's and stderr the log's: nothing is forwarded here.
        Ok(Response::new(self.idle()))
    }
}

#[tonic::async_trait]
impl GrpcBroker for Services {
    async fn start_stream(
        &self,
        _: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<BoxStream<ConnInfo>>, Status> {
        // Terraform opens the broker's stream, and providers never use it.
        Ok(Response::new(self.idle()))
    }
}
