//! Asking the host's resolvers, from the agent's own namespace.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// How long one resolver may take; guests ask again after five seconds, as a rule.
const DEADLINE: Duration = Duration::from_secs(2);
/// The largest answer over UDP (EDNS(0), RFC 6891).
const MAX_DATAGRAM: usize = 65_535;

/// How a question came, and so how it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// The answer of the first resolver that has one, with the guest's id; as it is otherwise, so that
/// types and options that we do not know pass.
pub(super) async fn ask(
    resolvers: &[SocketAddr],
    asked: &Message,
    question: &[u8],
    transport: Transport,
) -> Option<Vec<u8>> {
    let mut failure = None;
    for resolver in resolvers {
        let asking = async {
            match transport {
                Transport::Udp => over_udp(*resolver, asked, question).await,
                Transport::Tcp => over_tcp(*resolver, asked, question).await,
            }
        };
        match tokio::time::timeout(DEADLINE, asking).await {
            Ok(Ok((answer, ResponseCode::ServFail | ResponseCode::Refused))) => {
                // Another one may know better.
                failure = Some(answer);
            }
            Ok(Ok((answer, _))) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%resolver, %error, "a resolver cannot be asked"),
            Err(_) => tracing::debug!(%resolver, "a resolver does not answer"),
        }
    }
    failure
}

/// A socket of its own, and so a port that nobody can guess, for each question; the id is drawn
/// anew: a guest must not choose what another guest's answer is recognised by.
async fn over_udp(
    resolver: SocketAddr,
    asked: &Message,
    question: &[u8],
) -> io::Result<(Vec<u8>, ResponseCode)> {
    let any = match resolver {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    let id = random_id()?;
    socket.send(&with_id(question, id)).await?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        // Anything else is forged or late.
        if let Some(code) = answers(answer, asked, id) {
            return Ok((with_id(answer, asked.metadata.id), code));
        }
    }
}

async fn over_tcp(
    resolver: SocketAddr,
    asked: &Message,
    question: &[u8],
) -> io::Result<(Vec<u8>, ResponseCode)> {
    let id = random_id()?;
    let mut stream = TcpStream::connect(resolver).await?;
    let framed = with_length(&with_id(question, id)).ok_or(io::ErrorKind::InvalidInput)?;
    stream.write_all(&framed).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    let code = answers(&answer, asked, id).ok_or(io::ErrorKind::InvalidData)?;
    Ok((with_id(&answer, asked.metadata.id), code))
}

/// How `answer` answers what was asked with this id, if it does.
fn answers(answer: &[u8], asked: &Message, id: u16) -> Option<ResponseCode> {
    let answer = Message::from_vec(answer).ok()?;
    let fits = answer.metadata.id == id
        && answer.metadata.message_type == MessageType::Response
        && (answer.queries == asked.queries || answer.queries.is_empty());
    fits.then_some(answer.metadata.response_code)
}

/// The message with another id: its first two bytes (RFC 1035, 4.1.1).
fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(start) = message.first_chunk_mut() {
        *start = id.to_be_bytes();
    }
    message
}

/// As it goes over TCP (RFC 1035, 4.2.2).
pub(super) fn with_length(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([&length.to_be_bytes(), message].concat())
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u16::from_be_bytes(bytes))
}
