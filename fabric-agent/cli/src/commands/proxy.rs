//! `weft proxy`: standard input and output as one TCP connection to a guest, through the API.
//!
//! ssh's ProxyCommand, scp, rsync and Ansible stand on it, so nothing but the guest's bytes goes to
//! standard output. Each direction ends on its own: the end of standard input ends the request
//! stream (the guest sees FIN); an empty chunk says that the guest has ended its side and ends
//! standard output, while input goes on. The connection is over, and everything delivered, when the
//! response stream ends. Both directions are bounded by a few chunks.

use std::os::fd::AsRawFd as _;
use std::process::ExitCode;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weft_model::{Problem, Reason};
use weft_proto::v1::{ByteChunk, PortInput};

use crate::agent::Agent;
use crate::failure::Failure;
use crate::target;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An id or a unique name
    instance: String,
    /// The TCP port of the guest
    #[arg(long, default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

/// Bytes in one message.
const CHUNK_BYTES: usize = 32 * 1024;
/// Messages that wait for the agent; more are not read from standard input.
const QUEUED_CHUNKS: usize = 4;

pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    let id = target::instance(agent, &args.instance).await?.object.id.to_string();
    let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let hello = PortInput { id, port: args.port.into(), data: Vec::new() };
    // The channel is empty and its receiver is alive: this neither waits nor fails.
    let _ = sender.send(hello).await;
    let requests = ReceiverStream::new(receiver);
    let output = agent.instances().open_port(requests).await?.into_inner();

    let input = async {
        send_input(tokio::io::stdin(), sender).await?;
        // The guest's answer goes on: only the response stream says when the connection is over.
        std::future::pending().await
    };
    // Dropping either half is fine at every point: the call ends with this process.
    tokio::select! {
        result = receive_output(output) => result,
        result = input => result,
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Sends until `input` ends or the agent takes no more; dropping the sender ends the stream.
async fn send_input(
    mut input: impl AsyncRead + Unpin,
    sender: mpsc::Sender<PortInput>,
) -> Result<(), Failure> {
    loop {
        let mut data = vec![0; CHUNK_BYTES];
        let read = tokio::select! {
            read = input.read(&mut data) => read,
            () = sender.closed() => return Ok(()),
        };
        let length = read.map_err(|error| Failure::internal("read standard input", &error))?;
        if length == 0 {
            return Ok(());
        }
        data.truncate(length);
        let message = PortInput { id: String::new(), port: 0, data };
        if sender.send(message).await.is_err() {
            // The call is over; its result comes with the response stream.
            return Ok(());
        }
    }
}

async fn receive_output(mut chunks: Streaming<ByteChunk>) -> Result<(), Failure> {
    let mut out = tokio::io::stdout();
    while let Some(chunk) = chunks.message().await? {
        if chunk.data.is_empty() {
            close_output()?;
            continue;
        }
        out.write_all(&chunk.data).await.map_err(Failure::Output)?;
        out.flush().await.map_err(Failure::Output)?;
    }
    Ok(())
}

/// Lets the reader of standard output see its end while this process lives on.
fn close_output() -> Result<(), Failure> {
    let out = std::io::stdout();
    // Where input and output are one socket, closing one descriptor would not end the stream;
    // anything but a socket answers ENOTSOCK, which is no fault.
    let _ = shutdown(out.as_raw_fd(), Shutdown::Write);
    let fault = |error: &dyn std::error::Error| {
        let message = "cannot close standard output";
        Problem::new(Reason::Internal, message).evidence(error.to_string())
    };
    let null =
        std::fs::File::options().write(true).open("/dev/null").map_err(|error| fault(&error))?;
    nix::unistd::dup2_stdout(null).map_err(|error| fault(&error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_read_than_the_agent_takes() {
        let (sender, mut receiver) = mpsc::channel(QUEUED_CHUNKS);
        let endless = tokio::io::repeat(b'x');
        let task = tokio::spawn(send_input(endless, sender));
        while receiver.len() < QUEUED_CHUNKS {
            tokio::task::yield_now().await;
        }
        // Nobody receives: however often the task gets its turn, nothing is added.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(receiver.len(), QUEUED_CHUNKS);
        assert!(!task.is_finished());
        // And it ends when the agent has gone.
        receiver.close();
        while receiver.recv().await.is_some() {}
        assert!(task.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn every_byte_is_sent_in_order_until_the_input_ends() {
        let input: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
        let (sender, mut receiver) = mpsc::channel(QUEUED_CHUNKS);
        let task = tokio::spawn(send_input(std::io::Cursor::new(input.clone()), sender));
        let mut sent = Vec::new();
        while let Some(message) = receiver.recv().await {
            assert!(message.id.is_empty() && message.data.len() <= CHUNK_BYTES);
            sent.extend(message.data);
        }
        assert!(task.await.unwrap().is_ok());
        assert!(sent == input);
    }
}
