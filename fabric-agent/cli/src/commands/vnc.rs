//! `weft vnc`: a place of this machine where VNC viewers find an instance's display. Each that connects
//! has a stream of its own through the agent; what is said in it, nobody here looks at, but for what a
//! password needs where others could connect.

mod handshake;
mod password;
mod place;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use weft_model::{Problem, Reason};
use weft_proto::v1::instances_client::InstancesClient;
use weft_proto::v1::{ByteChunk, DisplayInput};

use crate::agent::Agent;
use crate::failure::{self, Failure};
use crate::{output, target};
use handshake::Asked;
use password::Password;
use place::Place;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An id or a unique name
    instance: String,
    /// The port of 127.0.0.1 that viewers connect to, who have to know the password that is printed;
    /// without it, one that is free
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// A unix socket instead, which only you may connect to, without a password
    #[arg(long, value_name = "PATH", conflicts_with = "port")]
    socket: Option<std::path::PathBuf>,
}

/// Bytes in one message, and messages that wait for the agent.
const CHUNK_BYTES: usize = 32 * 1024;
const QUEUED_CHUNKS: usize = 4;
/// How long somebody may take to type the password.
const TO_BE_TYPED: Duration = Duration::from_secs(120);

pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    let id = target::instance(agent, &args.instance).await?.object.id.to_string();
    // What speaks against it is told now, and not to a viewer that hides it.
    drop(Stream::open(agent.instances(), &id).await?);
    let (place, password) = match &args.socket {
        Some(path) => (Place::unix(path)?, None),
        None => (Place::tcp(args.port).await?, Some(Arc::new(Password::random()?))),
    };
    let caught = |error| Failure::internal("catch signals", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(caught)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(caught)?;
    output::print(match &password {
        Some(password) => format!("{}\npassword: {}\n", place.address(), password.text()),
        None => format!("{}\n", place.address()),
    })?;
    eprintln!("the display of {id} is there for VNC viewers; Ctrl-C ends");
    eprintln!("for example: {}", place.example());
    loop {
        let viewer = tokio::select! {
            viewer = place.accept() => viewer?,
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        };
        let (instances, id, password) = (agent.instances(), id.clone(), password.clone());
        tokio::spawn(async move {
            let served = match &password {
                Some(password) => serve_who_knows(instances, &id, viewer, password).await,
                None => serve(instances, &id, viewer).await,
            };
            if let Err(error) = served {
                failure::report(&error);
            }
        });
    }
}

/// A viewer that has to know the password.
async fn serve_who_knows(
    instances: InstancesClient<Channel>,
    id: &str,
    mut viewer: impl AsyncRead + AsyncWrite + Unpin,
    password: &Password,
) -> Result<(), Failure> {
    let asked = tokio::time::timeout(TO_BE_TYPED, handshake::ask(&mut viewer, password));
    let version = match asked.await {
        Ok(asked) => match asked? {
            Asked::Knows(version) => version,
            Asked::DoesNot => {
                eprintln!("a viewer was refused: it did not know the password");
                return Ok(());
            }
            Asked::Nobody => return Ok(()),
        },
        Err(_elapsed) => return Ok(()),
    };
    let entered = async {
        let mut stream = Stream::open(instances, id).await?;
        handshake::enter(&mut stream).await?;
        Ok(stream)
    };
    match entered.await {
        Ok(stream) => {
            // A viewer that has gone meanwhile is no failure.
            match handshake::admit(&mut viewer).await {
                Ok(()) => pass(stream, viewer).await,
                Err(_) => Ok(()),
            }
        }
        Err(failure) => {
            let _ = handshake::refuse(&mut viewer, version, "weft cannot open the display").await;
            Err(failure)
        }
    }
}

async fn serve(
    instances: InstancesClient<Channel>,
    id: &str,
    viewer: impl AsyncRead + AsyncWrite,
) -> Result<(), Failure> {
    pass(Stream::open(instances, id).await?, viewer).await
}

/// Whatever both sides say, until one is gone.
async fn pass(stream: Stream, viewer: impl AsyncRead + AsyncWrite) -> Result<(), Failure> {
    let Stream { to_guest, from_guest, said } = stream;
    let (reader, writer) = tokio::io::split(viewer);
    tokio::pin!(reader, writer);
    // When one side is gone, so is the other.
    tokio::select! {
        result = receive(said, from_guest, writer) => result,
        () = send(reader, to_guest) => Ok(()),
    }
}

/// A stream to the display, open at both ends.
struct Stream {
    to_guest: mpsc::Sender<DisplayInput>,
    from_guest: Streaming<ByteChunk>,
    /// What came and nobody has taken yet.
    said: Vec<u8>,
}

impl Stream {
    async fn open(mut instances: InstancesClient<Channel>, id: &str) -> Result<Self, Failure> {
        let (to_guest, receiver) = mpsc::channel(QUEUED_CHUNKS);
        let hello = DisplayInput { id: id.to_owned(), data: Vec::new() };
        // The channel is empty and its receiver is alive: this neither waits nor fails.
        let _ = to_guest.send(hello).await;
        let answer = instances.open_display(ReceiverStream::new(receiver)).await?;
        Ok(Self { to_guest, from_guest: answer.into_inner(), said: Vec::new() })
    }

    /// The next bytes.
    async fn take<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let mut taken = [0; N];
        while self.said.len() < N {
            match self.from_guest.message().await? {
                Some(chunk) if !chunk.data.is_empty() => self.said.extend(chunk.data),
                _ => {
                    let message = "the display was gone before a viewer saw it";
                    return Err(Problem::new(Reason::Unavailable, message).into());
                }
            }
        }
        let rest = self.said.split_off(N);
        taken.copy_from_slice(&std::mem::replace(&mut self.said, rest));
        Ok(taken)
    }

    /// A display that is gone is told by the next [`Self::take`].
    async fn say(&self, bytes: &[u8]) {
        let _ = self.to_guest.send(DisplayInput { id: String::new(), data: bytes.to_vec() }).await;
    }
}

/// Until the guest's display is gone. A viewer that is gone is no failure.
async fn receive(
    said: Vec<u8>,
    mut chunks: Streaming<ByteChunk>,
    mut viewer: impl AsyncWrite + Unpin,
) -> Result<(), Failure> {
    if viewer.write_all(&said).await.is_err() {
        return Ok(());
    }
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
