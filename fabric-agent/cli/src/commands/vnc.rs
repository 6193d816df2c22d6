//! `weft vnc`: a place of this machine where VNC viewers find an instance's display. Each that connects
//! has a stream of its own through the agent; what is said in it, nobody here looks at.

mod place;

use std::process::ExitCode;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use weft_proto::v1::instances_client::InstancesClient;
use weft_proto::v1::{ByteChunk, DisplayInput};

use crate::agent::Agent;
use crate::failure::{self, Failure};
use crate::{output, target};
use place::Place;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An id or a unique name
    instance: String,
    /// The port of 127.0.0.1 that viewers connect to, also those of other users of this machine;
    /// without it, one that is free
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// A unix socket instead, which only you may connect to
    #[arg(long, value_name = "PATH", conflicts_with = "port")]
    socket: Option<std::path::PathBuf>,
}

/// Bytes in one message, and messages that wait for the agent.
const CHUNK_BYTES: usize = 32 * 1024;
const QUEUED_CHUNKS: usize = 4;

pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    let id = target::instance(agent, &args.instance).await?.object.id.to_string();
    // What speaks against it is told now, and not to a viewer that hides it.
    drop(Stream::open(agent.instances(), &id).await?);
    let place = match &args.socket {
        Some(path) => Place::unix(path)?,
        None => Place::tcp(args.port).await?,
    };
    let caught = |error| Failure::internal("catch signals", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(caught)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(caught)?;
    output::print(format!("{}\n", place.address()))?;
    eprintln!("the display of {id} is there for VNC viewers; Ctrl-C ends");
    eprintln!("for example: {}", place.example());
    loop {
        let viewer = tokio::select! {
            viewer = place.accept() => viewer?,
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        };
        let (instances, id) = (agent.instances(), id.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(instances, &id, viewer).await {
                failure::report(&error);
            }
        });
    }
}

async fn serve(
    instances: InstancesClient<Channel>,
    id: &str,
    viewer: impl AsyncRead + AsyncWrite,
) -> Result<(), Failure> {
    let Stream { to_guest, from_guest } = Stream::open(instances, id).await?;
    let (reader, writer) = tokio::io::split(viewer);
    tokio::pin!(reader, writer);
    // When one side is gone, so is the other.
    tokio::select! {
        result = receive(from_guest, writer) => result,
        () = send(reader, to_guest) => Ok(()),
    }
}

/// A stream to the display, open at both ends.
struct Stream {
    to_guest: mpsc::Sender<DisplayInput>,
    from_guest: Streaming<ByteChunk>,
}

impl Stream {
    async fn open(mut instances: InstancesClient<Channel>, id: &str) -> Result<Self, Failure> {
        let (to_guest, receiver) = mpsc::channel(QUEUED_CHUNKS);
        let hello = DisplayInput { id: id.to_owned(), data: Vec::new() };
        // The channel is empty and its receiver is alive: this neither waits nor fails.
        let _ = to_guest.send(hello).await;
        let answer = instances.open_display(ReceiverStream::new(receiver)).await?;
        Ok(Self { to_guest, from_guest: answer.into_inner() })
    }
}

/// Until the guest's display is gone. A viewer that is gone is no failure.
async fn receive(
    mut chunks: Streaming<ByteChunk>,
    mut viewer: impl AsyncWrite + Unpin,
) -> Result<(), Failure> {
    while let Some(chunk) = chunks.message().await? {
        let gone = chunk.data.is_empty();
        if gone || viewer.write_all(&chunk.data).await.is_err() || viewer.flush().await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Until the viewer says no more, or the agent takes no more.
async fn send(mut viewer: impl AsyncRead + Unpin, to_guest: mpsc::Sender<DisplayInput>) {
    loop {
        let mut data = vec![0; CHUNK_BYTES];
        let Ok(length @ 1..) = viewer.read(&mut data).await else { return };
        data.truncate(length);
        if to_guest.send(DisplayInput { id: String::new(), data }).await.is_err() {
            return;
        }
    }
}
