//! A UDP socket that knows which link a datagram came in by, and chooses which one it leaves by.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use weft_model::LinkName;

/// No DHCP message of a client is longer: the largest Ethernet frame without fragments.
const MAX_DATAGRAM: usize = 1500;

/// A datagram and the link that it came in by.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) datagram: Vec<u8>,
    pub(super) link: LinkName,
    pub(super) index: u32,
}

#[derive(Debug)]
pub(super) struct LinkSocket(UdpSocket);

impl LinkSocket {
    /// `socket` does not block and has `IP_PKTINFO` set.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self(UdpSocket::from_std(socket)?))
    }

    /// The next datagram whose link still exists. Cancel safe.
    pub(super) async fn receive(&self) -> io::Result<Received> {
        loop {
            let (datagram, index) =
                self.0.async_io(Interest::READABLE, || receive(&self.0)).await?;
            // The link may have gone in the meantime, and its guest with it.
            if let Some(link) = link_name(&self.0, index)
                && let Ok(index) = u32::try_from(index)
            {
                return Ok(Received { datagram, link, index });
            }
        }
    }

    /// Sends from `source` out of the link `index`. What does not fit into the socket's buffer is
    /// lost, as on a wire: the client asks again.
    pub(super) fn send(
        &self,
        datagram: &[u8],
        to: SocketAddrV4,
        index: u32,
        source: Ipv4Addr,
    ) -> io::Result<()> {
        let info = libc::in_pktinfo {
            ipi_ifindex: libc::c_int::try_from(index).map_err(io::Error::other)?,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        let (descriptor, to) = (self.0.as_raw_fd(), SockaddrIn::from(to));
        sendmsg(descriptor, &[IoSlice::new(datagram)], &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }
}

fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, libc::c_int)> {
    let mut buffer = [0; MAX_DATAGRAM];
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let (length, index) = {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let descriptor = socket.as_raw_fd();
        let message =
            recvmsg::<SockaddrIn>(descriptor, &mut parts, Some(&mut control), MsgFlags::empty())?;
        let index = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(info.ipi_ifindex),
            _ => None,
        });
        (message.bytes, index.unwrap_or(0))
    };
    Ok((buffer.get(..length).unwrap_or_default().to_vec(), index))
}

/// The link's name in the socket's own namespace, which is not the calling thread's: the kernel
/// goes by the socket (Linux `net/socket.c`, `sock_do_ioctl`).
#[expect(unsafe_code, reason = "SIOCGIFNAME is an ioctl without a wrapper")]
pub(crate) fn link_name(socket: &impl AsRawFd, index: libc::c_int) -> Option<LinkName> {
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_ifindex: index };
    let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru };
    // SAFETY: the descriptor is open and `request` is a whole ifreq that outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFNAME, &raw mut request) };
    if done != 0 {
        return None;
    }
    let name = request.ifr_name.iter().take_while(|byte| **byte != 0);
    let name: Vec<u8> = name.map(|byte| byte.cast_unsigned()).collect();
    String::from_utf8(name).ok()?.parse().ok()
}
