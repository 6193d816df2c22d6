//! `weft console`: the serial console of an instance, typed at and read live.
//!
//! A terminal is put into raw mode, so that every key reaches the guest, and is put back whatever
//! happens. Ctrl-] detaches. Without a terminal, bytes are passed as they are.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use weft_model::{InstanceId, Problem};
use weft_proto::client::Endpoint;
use weft_proto::v1::console_access_client::ConsoleAccessClient;
use weft_proto::v1::{ByteChunk, ConsoleInput};

use crate::agent::Agent;
use crate::failure::Failure;
use crate::target;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An id or a unique name; with a token, the id
    instance: String,
    /// A file with a console token of the instance; or the token itself in WEFT_CONSOLE_TOKEN. No
    /// certificate is needed then, and the endpoint is where the agent serves holders of tokens
    /// (fabric-agent serve --console-listen)
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The environment variable with a token. There is no flag: others see what programs are called with.
const TOKEN_VARIABLE: &str = "WEFT_CONSOLE_TOKEN";

impl Args {
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn token(&self) -> Result<Option<String>, Failure> {
        let text = match &self.token_file {
            None => std::env::var(TOKEN_VARIABLE).ok(),
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                let message = format!("cannot read {}: {error}", path.display());
                Failure::Usage(Problem::invalid("token_file", message))
            })?),
        };
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }
}

/// Ctrl-].
const DETACH: u8 = 0x1d;
/// Bytes in one message, and messages that wait for the agent.
const CHUNK_BYTES: usize = 4 * 1024;
const QUEUED_CHUNKS: usize = 4;

pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    let id = target::instance(agent, &args.instance).await?.object.id.to_string();
    let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let hello = ConsoleInput { id: id.clone(), data: Vec::new() };
    // The channel is empty and its receiver is alive: this neither waits nor fails.
    let _ = sender.send(hello).await;
    let requests = ReceiverStream::new(receiver);
    let output = agent.instances().attach_console(requests).await?.into_inner();
    converse(&id, sender, output).await
}

/// The same, with nothing but a token.
pub(crate) async fn run_by_token(
    endpoint: Endpoint,
    token: &str,
    args: &Args,
) -> Result<ExitCode, Failure> {
    let usage = |field: &str, message: String, remedy: &str| {
        Failure::Usage(Problem::invalid(field, message).remedy(remedy))
    };
    let id: InstanceId = args.instance.parse().map_err(|error: weft_model::InvalidId| {
        let remedy =
            "with a token (WEFT_CONSOLE_TOKEN, --token-file) an instance is called by its id";
        usage("instance", error.to_string(), remedy)
    })?;
    if endpoint.socket().is_some() {
        return Err(usage(
            "endpoint",
            "a console token is for an agent on TCP".to_owned(),
            "set --endpoint to https:// with the agent's name and the port of its --console-listen; or unset \
             WEFT_CONSOLE_TOKEN, to attach as who may use the socket",
        ));
    }
    let bearer: MetadataValue<_> = format!("Bearer {token}").parse().map_err(|_invalid| {
        let remedy =
            "a token is one line of text, in WEFT_CONSOLE_TOKEN or the file of --token-file";
        usage("token_file", "that is no console token".to_owned(), remedy)
    })?;
    let channel = weft_proto::client::connect(&endpoint.by_token()).await?;
    let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
    // As above.
    let _ = sender.send(ConsoleInput { id: id.to_string(), data: Vec::new() }).await;
    let mut request = tonic::Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert("authorization", bearer);
    let answer = ConsoleAccessClient::new(channel).attach(request).await;
    let output = answer.map_err(with_remedy)?.into_inner();
    converse(id.as_str(), sender, output).await
}

/// Of a token that is refused the agent says nothing more.
fn with_remedy(status: Status) -> Problem {
    let problem = weft_proto::problem_from_status(&status);
    match status.code() {
        Code::Unauthenticated => problem.remedy(
            "set WEFT_CONSOLE_TOKEN, or --token-file, to a token that lives; or unset it, to attach with a \
             certificate at the port of --listen",
        ),
        _ => problem,
    }
}

async fn converse(
    id: &str,
    sender: mpsc::Sender<ConsoleInput>,
    output: tonic::Streaming<ByteChunk>,
) -> Result<ExitCode, Failure> {
    let interactive = std::io::stdin().is_terminal();
    let signals = end_signals().map_err(|error| Failure::internal("catch signals", &error))?;
    let raw = if interactive { Some(RawTerminal::enter()?) } else { None };
    if interactive {
        notice(&format!("connected to the console of {id}; Ctrl-] detaches\r\n"));
    }
    // Dropping the halves is fine at every point: the stream ends with them.
    let result = tokio::select! {
        result = receive(output) => result,
        result = send(sender, interactive) => result,
        () = signals => Ok(()),
    };
    drop(raw);
    if interactive {
        notice("\ndetached\n");
    }
    result.map(|()| ExitCode::SUCCESS)
}

fn notice(text: &str) {
    use std::io::Write as _;
    // Nobody is left to be told when standard error is gone.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

async fn receive(mut chunks: tonic::Streaming<ByteChunk>) -> Result<(), Failure> {
    let mut out = tokio::io::stdout();
    while let Some(chunk) = chunks.message().await? {
        out.write_all(&chunk.data).await.map_err(Failure::Output)?;
        out.flush().await.map_err(Failure::Output)?;
    }
    Ok(())
}

/// Returns when the user detaches or the terminal is gone. Input that is not a terminal may end
/// long before its answer is complete: then only the request stream ends here.
async fn send(sender: mpsc::Sender<ConsoleInput>, interactive: bool) -> Result<(), Failure> {
    let mut input = tokio::io::stdin();
    let mut buffer = [0; CHUNK_BYTES];
    loop {
        let read = input.read(&mut buffer).await;
        let length = read.map_err(|error| Failure::internal("read standard input", &error))?;
        let (data, detach) = match interactive {
            true => before_detach(&buffer[..length]),
            false => (&buffer[..length], false),
        };
        if !data.is_empty() {
            let message = ConsoleInput { id: String::new(), data: data.to_vec() };
            if sender.send(message).await.is_err() {
                // The call is over; its result comes with the response stream.
                return std::future::pending().await;
            }
        }
        if detach || (length == 0 && interactive) {
            return Ok(());
        }
        if length == 0 {
            drop(sender);
            return std::future::pending().await;
        }
    }
}

/// What was typed before Ctrl-], and whether it was typed.
fn before_detach(typed: &[u8]) -> (&[u8], bool) {
    match typed.iter().position(|byte| *byte == DETACH) {
        Some(at) => (&typed[..at], true),
        None => (typed, false),
    }
}

/// Ends with the first signal that would end the process and leave the terminal raw.
fn end_signals() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
    })
}

/// The terminal in raw mode for as long as this lives.
#[derive(Debug)]
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> Result<Self, Failure> {
        let fault = |error| Failure::internal("set up the terminal", &error);
        let before = tcgetattr(std::io::stdin()).map_err(fault)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        let entered = Self { before };
        tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &raw).map_err(fault)?;
        Ok(entered)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that hung up cannot be restored and need not be.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_with_a_token_is_told_where_it_came_from() {
        let remedy = |status| with_remedy(status).remedy.unwrap_or_default();
        assert!(remedy(Status::unauthenticated("it has ended")).contains("WEFT_CONSOLE_TOKEN"));
        assert!(!remedy(Status::permission_denied("another")).contains("WEFT_CONSOLE_TOKEN"));
    }

    #[test]
    fn what_was_typed_before_the_detach_key_is_sent() {
        assert_eq!(before_detach(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(before_detach(b"ls\x1dpwd"), (&b"ls"[..], true));
        assert_eq!(before_detach(b"\x1d"), (&b""[..], true));
    }
}
