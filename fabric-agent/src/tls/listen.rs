//! The TCP listener. Whoever is on the network may knock: until a client has shown its certificate
//! it gets little memory, little time and a share of few places.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Sleep;
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

/// How long a connection without a certificate may be there with nothing attached over it.
const UNATTACHED: Duration = Duration::from_secs(10);

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
    /// How much is attached over a connection without a certificate.
    attached: Option<Arc<AtomicUsize>>,
}

/// While it is there, its connection may stay.
#[derive(Debug)]
pub(crate) struct Stay(Arc<AtomicUsize>);

impl Peer {
    /// Who has shown a certificate.
    pub(crate) fn of_certificate(client: String, address: SocketAddr) -> Self {
        Self { client, address, attached: None }
    }

    /// `None`: the connection stays anyway.
    pub(crate) fn stay(&self) -> Option<Stay> {
        let attached = self.attached.clone()?;
        attached.fetch_add(1, Ordering::Relaxed);
        Some(Stay(attached))
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
                    Admits::Anyone => Some(stranger(stream, address, place)),
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
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            door.say(|| tracing::info!(peer = %address, %error, "a connection was refused"));
            None
        }
        Err(_elapsed) => {
            door.say(|| tracing::info!(peer = %address, "a connection was dropped: no TLS handshake within 10 s"));
            None
        }
    }
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
    Some(Connection { stream, peer, leaves: None, _places: (Some(place), None) })
}

/// A connection that has shown nothing. It keeps the place that it had for its handshake.
fn stranger(stream: TlsStream<TcpStream>, address: SocketAddr, place: Place) -> Connection {
    let attached = Arc::new(AtomicUsize::new(0));
    let peer = Peer { client: String::new(), address, attached: Some(Arc::clone(&attached)) };
    let leaves = Some(Leaves { at: Box::pin(tokio::time::sleep(UNATTACHED)), attached });
    Connection { stream, peer, leaves, _places: (None, Some(place)) }
}

/// When a connection without a certificate has to be gone.
#[derive(Debug)]
struct Leaves {
    at: Pin<Box<Sleep>>,
    attached: Arc<AtomicUsize>,
}

impl Leaves {
    /// Whether it has to be gone now; else this task is woken when it is time to ask again.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        while self.at.as_mut().poll(cx).is_ready() {
            if self.attached.load(Ordering::Relaxed) == 0 {
                return true;
            }
            self.at.as_mut().reset(tokio::time::Instant::now() + UNATTACHED);
        }
        false
    }
}

/// Counts who is let in.
#[derive(Debug)]
struct Door {
    handshakes: Arc<Semaphore>,
    by_peer: Arc<Mutex<HashMap<IpAddr, usize>>>,
    clients: Arc<Semaphore>,
    quiet: Quiet,
}

/// A stranger must not fill the log.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<Option<tokio::time::Instant>>);

impl Quiet {
    /// Says it, unless something was said just now.
    pub(crate) fn say(&self, say: impl FnOnce()) {
        let now = tokio::time::Instant::now();
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_none_or(|until| now >= until) {
            *until = Some(now + QUIET);
            say();
        }
    }
}

impl Default for Door {
    fn default() -> Self {
        Self {
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            by_peer: Arc::default(),
            clients: Arc::new(Semaphore::new(MAX_CLIENTS)),
            quiet: Quiet::default(),
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

    fn say(&self, say: impl FnOnce()) {
        self.quiet.say(say);
    }
}

/// What counts as one peer: an IPv4 address, or a /64 of IPv6, which one machine has as a whole.
fn share(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

/// A connection that was let in.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    leaves: Option<Leaves>,
    /// A client's, or the one that it had for its handshake.
    _places: (Option<OwnedSemaphorePermit>, Option<Place>),
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
