//! The TCP listener. Whoever is on the network may knock: until a client has shown its certificate
//! it gets little memory, little time and a share of few places.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use weft_proto::certificate::Certificate;

use super::certificates::Certificates;

/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many handshakes may be under way: of all peers, and of one (an address, or an IPv6 /64).
const MAX_HANDSHAKES: usize = 64;
const MAX_HANDSHAKES_OF_ONE: usize = 8;
/// How many clients may be connected, so that they leave files for everything else.
const MAX_CLIENTS: usize = 256;
/// How long the log is silent about refused peers after it has named one.
const QUIET: Duration = Duration::from_secs(10);

/// Who a connection is of.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The common name of its certificate.
    pub(crate) client: String,
    pub(crate) address: SocketAddr,
}

/// Accepts connections until `shutdown`; those that have shown a certificate come out.
pub(crate) fn accept(
    listener: TcpListener,
    certificates: Arc<Certificates>,
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
            let acceptor = TlsAcceptor::from(certificates.current());
            let (send, door) = (send.clone(), Arc::clone(&door));
            handshakes.spawn(async move {
                let shaken = shake(stream, address, acceptor, &door).await;
                drop(place);
                if let Some(connection) = shaken {
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
) -> Option<Connection> {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            door.say(|| tracing::info!(peer = %address, %error, "a connection was refused"));
            return None;
        }
        Err(_elapsed) => {
            door.say(|| tracing::info!(peer = %address, "a connection was dropped: no TLS handshake within 10 s"));
            return None;
        }
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let client = shown.and_then(|der| Certificate::from_der(der).ok())?.name;
    let Ok(place) = Arc::clone(&door.clients).try_acquire_owned() else {
        tracing::warn!(client, peer = %address, "a client was turned away: {MAX_CLIENTS} are connected");
        return None;
    };
    tracing::debug!(client, peer = %address, "a client has connected");
    Some(Connection { stream, peer: Peer { client, address }, _place: place })
}

/// Counts who is let in.
#[derive(Debug)]
struct Door {
    handshakes: Arc<Semaphore>,
    by_peer: Arc<Mutex<HashMap<IpAddr, usize>>>,
    clients: Arc<Semaphore>,
    quiet_until: Mutex<Option<tokio::time::Instant>>,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            by_peer: Arc::default(),
            clients: Arc::new(Semaphore::new(MAX_CLIENTS)),
            quiet_until: Mutex::default(),
        }
    }
}

/// A place for one handshake.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    by_peer: Arc<Mutex<HashMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                by_peer.remove(&self.peer);
            }
        }
    }
}

impl Door {
    /// A place, unless all are taken or this peer has its share.
    fn enter(&self, address: IpAddr) -> Option<Place> {
        let refuse = || {
            self.say(|| tracing::warn!(peer = %address, "a connection was dropped: too many handshakes are under way"));
        };
        let Ok(permit) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            refuse();
            return None;
        };
        let peer = share(address);
        let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_peer.entry(peer).or_default();
        if *count >= MAX_HANDSHAKES_OF_ONE {
            drop(by_peer);
            refuse();
            return None;
        }
        *count += 1;
        drop(by_peer);
        Some(Place { _permit: permit, by_peer: Arc::clone(&self.by_peer), peer })
    }

    /// A stranger must not fill the log.
    fn say(&self, say: impl FnOnce()) {
        let now = tokio::time::Instant::now();
        let mut quiet_until = self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
        if quiet_until.is_none_or(|until| now >= until) {
            *quiet_until = Some(now + QUIET);
            say();
        }
    }
}

/// What counts as one peer: an IPv4 address, or a /64 of IPv6, which one machine has as a whole.
fn share(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

/// A connection of a client whose certificate was verified.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _place: OwnedSemaphorePermit,
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
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_peer_gets_its_share_of_handshakes_and_leaves_room_for_others() {
        let door = Door::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut places: Vec<_> =
            (0..MAX_HANDSHAKES_OF_ONE).map(|_| door.enter(one).unwrap()).collect();
        assert!(door.enter(one).is_none());
        assert!(door.enter(other).is_some());
        drop(places.pop());
        assert!(door.enter(one).is_some());
    }

    #[tokio::test]
    async fn all_peers_together_get_no_more_than_there_are_places() {
        let door = Door::default();
        let mut places = Vec::new();
        while let Some(place) = door.enter(IpAddr::V4(u32::try_from(places.len()).unwrap().into()))
        {
            places.push(place);
        }
        assert_eq!(places.len(), MAX_HANDSHAKES);
        places.clear();
        assert!(door.by_peer.lock().unwrap().is_empty());
        assert!(door.enter("2001:db8::1".parse().unwrap()).is_some());
    }

    #[test]
    fn a_64_of_ipv6_is_one_peer() {
        let share = |text: &str| share(text.parse().unwrap());
        assert_eq!(share("2001:db8::1"), share("2001:db8::ffff:1"));
        assert_ne!(share("2001:db8::1"), share("2001:db8:0:1::1"));
        assert_eq!(share("::ffff:192.0.2.1"), share("192.0.2.1"));
    }
}
