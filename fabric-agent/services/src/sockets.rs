//! The sockets of one VPC's services.

use std::collections::BTreeSet;
use std::io;
use std::net::{
    Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket,
};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;
use weft_model::{DNS_ADDRESS, METADATA_ADDRESS};

/// Of metadata's answers before a token is given: containers behind the guest's own bridge are
/// served where its hop limit allows, so the handshake must reach them.
const METADATA_TTL: u8 = 64;
const DHCP_PORT: u16 = 67;
const DHCP_V6_PORT: u16 = 547;
/// After a failed receive or accept: no memory or no descriptors left, as a rule.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);
const HTTP_PORT: u16 = 80;
const DNS_PORT: u16 = 53;

/// A socket that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address} ({service})")]
pub struct SocketError {
    service: &'static str,
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Open and listening; nothing is answered before they are served.
#[derive(Debug)]
pub struct Sockets {
    pub(crate) dhcp: UdpSocket,
    pub(crate) metadata: TcpListener,
    pub(crate) dns: Vec<(UdpSocket, TcpListener)>,
    /// Sees nothing that is answered where no guest has IPv6.
    pub(crate) v6: OwnedFd,
}

impl Sockets {
    /// Opens them in the calling thread's network namespace, whose loopback link has the
    /// services' addresses and `gateways`. On a bridge the gateways may be anywhere.
    ///
    /// # Errors
    /// [`SocketError`] says which address could not be had.
    pub fn open(gateways: &BTreeSet<Ipv4Addr>) -> Result<Self, SocketError> {
        let failed = |service, address| move |source| SocketError { service, address, source };
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, DHCP_PORT);
        let dhcp = open_dhcp(any).map_err(failed("DHCP", any.into()))?;
        let at = SocketAddrV4::new(METADATA_ADDRESS, HTTP_PORT);
        let metadata = open_metadata(at).map_err(failed("metadata", at.into()))?;
        let mut dns = Vec::new();
        for address in gateways.iter().copied().chain([DNS_ADDRESS]) {
            let at = SocketAddrV4::new(address, DNS_PORT);
            let open = || -> io::Result<_> {
                let (udp, tcp) = (UdpSocket::bind(at)?, TcpListener::bind(at)?);
                udp.set_nonblocking(true)?;
                tcp.set_nonblocking(true)?;
                Ok((udp, tcp))
            };
            dns.push(open().map_err(failed("DNS", at.into()))?);
        }
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, DHCP_V6_PORT, 0, 0);
        let v6 = crate::v6::open().map_err(failed("DHCPv6", any.into()))?;
        Ok(Self { dhcp, metadata, dns, v6 })
    }
}

/// The next connection, however many fail before it. Cancel safe.
pub(crate) async fn accept(
    listener: &tokio::net::TcpListener,
    service: &'static str,
) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::debug!(service, %error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn open_dhcp(address: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    // Tells which link a request came in by, and which one an answer leaves by.
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    Ok(socket)
}

fn open_metadata(address: SocketAddrV4) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // Accepted connections inherit it (Linux `net/ipv4/inet_connection_sock.c`, the clone of the
    // listening socket), the handshake included.
    setsockopt(&listener, sockopt::Ipv4Ttl, &METADATA_TTL.into())?;
    Ok(listener)
}
