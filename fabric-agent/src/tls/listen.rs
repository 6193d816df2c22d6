//! The TCP listener. Whoever is on the network may knock: until a client has shown its certificate
//! it gets little memory, little time and a share of few places.

mod door;
mod standing;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use weft_model::Problem;
use weft_proto::certificate::Certificate;

use self::door::{Door, MAX_CLIENTS, Place};
use self::standing::{Leaves, Standing, Stay};
use super::certificates::Certificates;

/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a peer that was refused is listened to, and for how much.
const PARTING: Duration = Duration::from_secs(2);
const MAX_PARTING_BYTES: usize = 64 << 10;
/// How long the end of a connection may take.
const CLOSING: Duration = Duration::from_secs(10);

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admits {
    /// Who shows a certificate of the agent's own CA: may do everything.
    Clients,
    /// Who shows nothing: has the places of handshakes, and has to leave again soon, unless something
    /// is attached over the connection.
    Anyone,
}

/// Who a connection is of.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The common name of its certificate; empty without one.
    pub(crate) client: String,
    pub(crate) address: SocketAddr,
    /// Of a connection without a certificate.
    standing: Option<Arc<Standing>>,
}

impl Peer {
    /// Who has shown a certificate.
    pub(crate) fn of_certificate(client: String, address: SocketAddr) -> Self {
        Self { client, address, standing: None }
    }

    /// `None`: the connection stays anyway.
    ///
    /// # Errors
    /// As many stay as may.
    pub(crate) fn stay(&self) -> Result<Option<Stay>, Problem> {
        self.standing.as_ref().map(Standing::stay).transpose()
    }
}

/// Accepts connections until `shutdown`; those come out that are let in.
pub(crate) fn accept(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    admits: Admits,
    shutdown: CancellationToken,
) -> mpsc::Receiver<io::Result<Connection>> {
    let (send, receive) = mpsc::channel(8);
    tokio::spawn(async move {
        let door = Arc::new(Door::default());
        let mut handshakes = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = handshakes.join_next() => continue,
                () = shutdown.cancelled() => return,
                () = send.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, for example: they come back with time.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Who is turned away is hung up on: the stream ends here.
            let Some(place) = door.enter(address.ip()) else { continue };
            let acceptor = TlsAcceptor::from(certificates.current(admits));
            let (send, door) = (send.clone(), Arc::clone(&door));
            handshakes.spawn(async move {
                let Some(stream) = shake(stream, address, acceptor, &door).await else { return };
                let connection = match admits {
                    Admits::Clients => {
                        drop(place);
                        client(stream, address, &door)
                    }
                    Admits::Anyone => Some(stranger(stream, address, place, &door)),
                };
                if let Some(connection) = connection {
                    // Fails only when the server has ended.
                    let _ = send.send(Ok(connection)).await;
                }
            });
        }
    });
    receive
}

async fn shake(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    door: &Door,
) -> Option<TlsStream<TcpStream>> {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err((error, stream))) => {
            door.say(|| tracing::info!(peer = %address, %error, "a connection was refused"));
            part(stream).await;
            None
        }
        Err(_elapsed) => {
            door.say(|| tracing::info!(peer = %address, "a connection was dropped: no TLS handshake within 10 s"));
            None
        }
    }
}

/// Hangs up on a peer that was refused, when it has hung up or a moment later. In TLS 1.3 it sends its
/// request before it is told that it is refused; a socket that is closed with something unread resets
/// the connection (RFC 2525, section 2.17), and the peer loses the alert that says why.
async fn part(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let drain = async {
        let (mut sink, mut left) = ([0; 1024], MAX_PARTING_BYTES);
        while left > 0 {
            match stream.read(&mut sink).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    };
    let _ = tokio::time::timeout(PARTING, drain).await;
}

/// A connection that has shown a certificate.
fn client(stream: TlsStream<TcpStream>, address: SocketAddr, door: &Door) -> Option<Connection> {
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let client = shown.and_then(|der| Certificate::from_der(der).ok())?.name;
    let Ok(place) = Arc::clone(&door.clients).try_acquire_owned() else {
        tracing::warn!(client, peer = %address, "a client was turned away: {MAX_CLIENTS} are connected");
        return None;
    };
    tracing::debug!(client, peer = %address, "a client has connected");
    let peer = Peer::of_certificate(client, address);
    Some(Connection {
        stream,
        peer,
        leaves: None,
        closing: Closing::default(),
        _place: Some(place),
    })
}

/// A connection that has shown nothing. It keeps the place that it had for its handshake until it may stay.
fn stranger(
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    place: Place,
    door: &Door,
) -> Connection {
    let standing = Standing::new(place, Arc::clone(&door.staying));
    let leaves = Some(Leaves::new(Arc::clone(&standing)));
    let peer = Peer { client: String::new(), address, standing: Some(standing) };
    Connection { stream, peer, leaves, closing: Closing::default(), _place: None }
}

/// A connection that was let in.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    leaves: Option<Leaves>,
    closing: Closing,
    /// A client's.
    _place: Option<OwnedSemaphorePermit>,
}

/// Bounds how long the end of a connection takes: its last words have to be read by somebody.
#[derive(Debug, Default)]
struct Closing(Option<Pin<Box<Sleep>>>);

impl Closing {
    fn within(
        &mut self,
        cx: &mut Context<'_>,
        closed: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if closed.is_ready() {
            return closed;
        }
        let until = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSING)));
        until.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Connection {
    /// In reads and writes alike: who reads nothing must not stay for it.
    fn is_to_stay(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.leaves.as_mut().is_some_and(|leaves| leaves.is_over(cx)) {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_to_stay(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_to_stay(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_to_stay(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.closing.within(cx, closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_last_words_nobody_reads_is_closed_all_the_same() {
        let mut closing = Closing::default();
        let mut close = async |closed: fn() -> Poll<io::Result<()>>| {
            std::future::poll_fn(|cx| closing.within(cx, closed())).await
        };
        assert!(close(|| Poll::Ready(Ok(()))).await.is_ok());
        let begun = tokio::time::Instant::now();
        let late = close(|| Poll::Pending).await.unwrap_err();
        assert_eq!((late.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, CLOSING));
    }
}
