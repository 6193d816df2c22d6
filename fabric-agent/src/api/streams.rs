//! Byte streams through the API: a guest's ports and its console.

use std::net::SocketAddrV4;
use std::time::Duration;

use futures::{StreamExt as _, future, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};
use weft_model::{InstanceId, Problem, Reason};
use weft_proto::v1;

use super::{Answers, parse_id, refuse};
use crate::context::Context;
use crate::host::ByteStream;
use crate::repo::Instances;

const CHUNK_BYTES: usize = 32 * 1024;
/// How long a guest may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

type Stream = Box<dyn ByteStream>;

/// Connects to a port of a guest, beside its security groups: root's way in, so it is logged.
pub(super) async fn open_port(
    context: &Context,
    mut input: Streaming<v1::PortInput>,
) -> Result<Response<Answers<v1::ByteChunk>>, Status> {
    let missing = || refuse(Problem::invalid("id", "the first message has to name the instance"));
    let v1::PortInput { id, port, data } = input.message().await?.ok_or_else(missing)?;
    let id: InstanceId = parse_id(&id)?;
    let port = u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(|| {
        refuse(Problem::invalid("port", format!("{port} is not a port")).remedy("use 1 to 65535"))
    })?;
    let record = context.repo.get::<Instances>(&id).await.map_err(refuse)?.value;
    let interface = &record.spec.interface;
    let address = SocketAddrV4::new(interface.private_ip, port);
    tracing::info!(instance.id = %id, port, "a client connects to a port of a guest");
    let stream = context.host.connect(&interface.vpc_id, address, CONNECT_DEADLINE).await;
    let stream = stream.map_err(|error| {
        let state = context.cache.read().statuses.get(&id).map(|status| status.state.as_str());
        refuse(
            Problem::new(Reason::Unavailable, format!("cannot connect to port {port} of {id}"))
                .evidence(format!(
                    "{}; the instance is {}",
                    crate::error_chain::ErrorChain(&error),
                    state.unwrap_or("unknown")
                ))
                .remedy(format!("weft logs {id} shows its console")),
        )
    })?;
    let input = input.map(|message| message.map(|input| input.data));
    Ok(copy_both_ways(stream, data, input, Ends::WithBoth))
}

/// The serial console, both ways.
pub(super) async fn attach_console(
    context: &Context,
    mut input: Streaming<v1::ConsoleInput>,
) -> Result<Response<Answers<v1::ByteChunk>>, Status> {
    let missing = || refuse(Problem::invalid("id", "the first message has to name the instance"));
    let v1::ConsoleInput { id, data } = input.message().await?.ok_or_else(missing)?;
    let id: InstanceId = parse_id(&id)?;
    tracing::info!(instance.id = %id, "a client attaches to a console");
    attach(context, &id, data, input, std::future::pending(), ()).await
}

/// The console of `id` until `over`, whose answer the client gets then; `kept` is dropped when it has ended.
pub(super) async fn attach(
    context: &Context,
    id: &InstanceId,
    first: Vec<u8>,
    input: Streaming<v1::ConsoleInput>,
    over: impl Future<Output = Status> + Send + 'static,
    kept: impl Send + 'static,
) -> Result<Response<Answers<v1::ByteChunk>>, Status> {
    context.repo.get::<Instances>(id).await.map_err(refuse)?;
    let stream = context.host.attach_console(id).await;
    let stream = stream.map_err(|error| refuse(error.problem()))?;
    let input = input.map(|message| message.map(|input| input.data));
    let over = async move {
        let why = over.await;
        drop(kept);
        why
    };
    Ok(copy_until(stream, first, input, Ends::WithClient, over))
}

/// A display, both ways.
pub(super) fn display(
    stream: Stream,
    first: Vec<u8>,
    input: Streaming<v1::DisplayInput>,
) -> Response<Answers<v1::ByteChunk>> {
    let input = input.map(|message| message.map(|input| input.data));
    copy_both_ways(stream, first, input, Ends::WithClient)
}

/// What ends a stream as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Both sides, each in its own time: a port, whose guest may go on reading after its last word.
    WithBoth,
    /// The client: a console never ends by itself. Or the guest, whose display is gone then.
    WithClient,
}

fn copy_both_ways(
    stream: Stream,
    first: Vec<u8>,
    input: impl futures::Stream<Item = Result<Vec<u8>, Status>> + Send + Unpin + 'static,
    ends: Ends,
) -> Response<Answers<v1::ByteChunk>> {
    copy_until(stream, first, input, ends, std::future::pending())
}

/// The same, which also ends when `over` is, at whatever point it is: with the error that this gives.
fn copy_until(
    stream: Stream,
    first: Vec<u8>,
    input: impl futures::Stream<Item = Result<Vec<u8>, Status>> + Send + Unpin + 'static,
    ends: Ends,
    over: impl Future<Output = Status> + Send + 'static,
) -> Response<Answers<v1::ByteChunk>> {
    let (reader, writer) = tokio::io::split(stream);
    // Bounded: a client that does not read stops the guest from sending.
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let copying = async move {
        let to_guest = write_all(writer, first, input);
        let to_client = read_all(reader, &sender);
        match ends {
            Ends::WithBoth => {
                tokio::pin!(to_guest);
                tokio::select! {
                    ended = to_client => {
                        // A connection that broke takes nothing more.
                        if ended == ReadEnd::Closed {
                            to_guest.await;
                        }
                    }
                    // A client that is gone altogether reads nothing more either.
                    () = async { (&mut to_guest).await; sender.closed().await } => {}
                }
            }
            Ends::WithClient => {
                tokio::select! {
                    _ = to_client => {}
                    () = to_guest => {}
                }
            }
        }
    };
    let (ended, why) = oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            () = copying => {}
            status = over => {
                // Fails where the client is gone.
                let _ = ended.send(status);
            }
        }
    });
    // Beside the queue: a client that does not read has it full.
    let why = stream::once(async move { why.await.ok().map(Err) }).filter_map(future::ready);
    Response::new(Box::pin(ReceiverStream::new(receiver).chain(why)))
}

/// Client to guest; a half-closed stream is passed on as one.
async fn write_all(
    mut writer: WriteHalf<Stream>,
    first: Vec<u8>,
    mut input: impl futures::Stream<Item = Result<Vec<u8>, Status>> + Unpin,
) {
    let mut next = Some(Ok(first));
    while let Some(Ok(data)) = next {
        if writer.write_all(&data).await.is_err() || writer.flush().await.is_err() {
            return;
        }
        next = input.next().await;
    }
    // A client that broke off and one that has nothing more to say look the same to the guest.
    let _ = writer.shutdown().await;
}

/// How the guest's side came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadEnd {
    /// It said its last word; the other direction may go on.
    Closed,
    /// The connection broke, or the client does not listen any more.
    Broken,
}

/// Guest to client, until the guest closes, which an empty chunk tells, or the client is gone.
async fn read_all(
    mut reader: ReadHalf<Stream>,
    sender: &tokio::sync::mpsc::Sender<Result<v1::ByteChunk, Status>>,
) -> ReadEnd {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let (data, end) = match reader.read(&mut buffer).await {
            Ok(0) => (Ok(v1::ByteChunk { data: Vec::new() }), Some(ReadEnd::Closed)),
            Ok(length) => (Ok(v1::ByteChunk { data: buffer[..length].to_vec() }), None),
            Err(error) => (Err(Status::unavailable(error.to_string())), Some(ReadEnd::Broken)),
        };
        if sender.send(data).await.is_err() {
            return ReadEnd::Broken;
        }
        if let Some(end) = end {
            return end;
        }
    }
}
