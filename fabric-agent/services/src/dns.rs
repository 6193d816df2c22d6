//! Names: those of the VPC's own instances are answered here, all others by the host's resolvers.

mod reply;
mod resolvers;
pub(crate) mod upstream;
mod zone;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_model::VpcId;

use crate::directory::Directory;
use crate::guests::{HostLimit, Limits, Place};
use crate::refusals::{Refusals, Refused};
use crate::sockets::{PAUSE, accept};
use reply::{is_of_unknown_edns, refuse, reply};
pub use resolvers::Resolvers;
use upstream::{Transport, ask};
use zone::Found;

/// Questions that one guest may have open at once, and all guests of a VPC.
const PER_GUEST: usize = 64;
const IN_VPC: usize = 1024;
/// How long a guest's connection may be idle, and how many questions it may bring.
const IDLE: Duration = Duration::from_secs(10);
const MAX_QUESTIONS: usize = 100;
/// The largest question: names have 255 bytes, the rest is options.
const MAX_QUESTION_BYTES: usize = 4096;

/// Answers the guests of one VPC.
#[derive(Clone)]
pub(crate) struct Forwarder {
    vpc: VpcId,
    directory: Arc<dyn Directory>,
    resolvers: Arc<Resolvers>,
    refusals: Arc<Refusals>,
    limits: Limits,
}

impl Forwarder {
    pub(crate) fn new(
        vpc: VpcId,
        directory: Arc<dyn Directory>,
        resolvers: Arc<Resolvers>,
        refusals: Arc<Refusals>,
        host: &HostLimit,
    ) -> Self {
        let limits = Limits::new(PER_GUEST, IN_VPC, host);
        Self { vpc, directory, resolvers, refusals, limits }
    }

    /// A place for a question of `source`, if it is a guest with places left: whoever is not a
    /// guest of this VPC gets no answer at all.
    fn admit(&self, source: SocketAddr) -> Option<Place> {
        let SocketAddr::V4(source) = source else { return None };
        let refused = |why| {
            self.refusals.count(why, source.ip());
            None
        };
        if !self.directory.knows(&self.vpc, *source.ip()) {
            return refused(Refused::DnsStranger);
        }
        self.limits.take(*source.ip()).or_else(|| refused(Refused::DnsTooMany))
    }

    /// The answer to a question, or `None` where it is none.
    pub(crate) async fn answer(
        &self,
        guest: Ipv4Addr,
        question: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let asked = match Message::from_vec(question) {
            Ok(asked) if asked.metadata.message_type == MessageType::Query => asked,
            // An answer to an answer could go on for ever.
            _ => {
                self.refusals.count(Refused::DnsMalformed, &guest);
                return None;
            }
        };
        let refuse = |code| refuse(&asked, code);
        if asked.metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let [query] = asked.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
        if is_of_unknown_edns(&asked) {
            return refuse(ResponseCode::BADVERS);
        }
        match zone::find(query, asked.metadata.id, &self.vpc, &*self.directory) {
            Found::Elsewhere => {}
            found => return reply(&asked, found, transport),
        }
        let resolvers = self.resolvers.current();
        match ask(&resolvers, &asked, question, transport).await {
            Some(answer) => Some(answer),
            None => refuse(ResponseCode::ServFail),
        }
    }
}

/// Answers until `stop`; then the socket is closed, and questions under way are given up.
pub(crate) async fn serve_udp(socket: UdpSocket, forwarder: Forwarder, stop: CancellationToken) {
    let socket = Arc::new(socket);
    let mut questions = JoinSet::new();
    let mut buffer = vec![0; MAX_QUESTION_BYTES];
    loop {
        while questions.try_join_next().is_some() {}
        // Both are cancel safe.
        let received = tokio::select! {
            () = stop.cancelled() => return questions.shutdown().await,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, source) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "receiving questions for names failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = forwarder.admit(source) else { continue };
        let question = buffer.get(..length).unwrap_or_default().to_vec();
        let (socket, forwarder) = (Arc::clone(&socket), forwarder.clone());
        questions.spawn(async move {
            let answer = forwarder.answer(place.guest(), &question, Transport::Udp).await;
            if let Some(answer) = answer
                && let Err(error) = socket.send_to(&answer, source).await
            {
                tracing::debug!(%source, %error, "a DNS answer could not be sent");
            }
        });
    }
}

/// Answers until it is dropped.
pub(crate) async fn serve_tcp(listener: TcpListener, forwarder: Forwarder) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, source) = accept(&listener, "DNS").await;
        if let Some(place) = forwarder.admit(source) {
            connections.spawn(connection(stream, forwarder.clone(), place));
        }
    }
}

async fn connection(mut stream: TcpStream, forwarder: Forwarder, place: Place) {
    for _ in 0..MAX_QUESTIONS {
        let turn = async {
            let length = usize::from(stream.read_u16().await.ok()?);
            if length > MAX_QUESTION_BYTES {
                return None;
            }
            let mut question = vec![0; length];
            stream.read_exact(&mut question).await.ok()?;
            let answer = forwarder.answer(place.guest(), &question, Transport::Tcp).await?;
            stream.write_all(&upstream::with_length(&answer)?).await.ok()
        };
        if !matches!(tokio::time::timeout(IDLE, turn).await, Ok(Some(()))) {
            break;
        }
    }
    tracing::trace!(guest = %place.guest(), "DNS connection ended");
}
