//! A packet socket that sees the router solicitations and DHCPv6 requests of a namespace.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weft_model::LinkName;

/// No request is longer: the largest Ethernet frame.
const MAX_FRAME: usize = 1514;
/// `ETH_P_IPV6` of Linux `if_ether.h`, in network order as packet(7) wants it.
const IPV6: u16 = (libc::ETH_P_IPV6 as u16).to_be();

/// What is seen: a router solicitation, or a datagram to DHCPv6's port. Offsets are those of an
/// Ethernet frame. Everything else costs these few instructions.
const FILTER: [libc::sock_filter; 9] = [
    load(libc::BPF_B, 20),
    jump(58, 0, 2),
    load(libc::BPF_B, 54),
    jump(133, 3, 4),
    jump(17, 0, 3),
    load(libc::BPF_H, 56),
    jump(547, 0, 1),
    give(0xffff),
    give(0),
];

const fn load(size: u32, offset: u32) -> libc::sock_filter {
    let code = (libc::BPF_LD | size | libc::BPF_ABS) as u16;
    libc::sock_filter { code, jt: 0, jf: 0, k: offset }
}

const fn jump(value: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    libc::sock_filter { code, jt, jf, k: value }
}

const fn give(bytes: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: bytes }
}

/// Opens it in the calling thread's network namespace. It sees nothing before it is filtered.
///
/// # Errors
/// As socket(2), setsockopt(2) and bind(2).
pub(crate) fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    #[expect(unsafe_code, reason = "nix has no packet socket without a protocol")]
    // SAFETY: no pointer is passed; the descriptor is new and nobody else's.
    let socket = unsafe {
        match libc::socket(libc::AF_PACKET, kind, 0) {
            -1 => return Err(io::Error::last_os_error()),
            descriptor => OwnedFd::from_raw_fd(descriptor),
        }
    };
    let length = u16::try_from(FILTER.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: FILTER.as_ptr().cast_mut() };
    #[expect(unsafe_code, reason = "SO_ATTACH_FILTER has no wrapper")]
    // SAFETY: the program and what it points to outlive the call, which only reads them.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size(&program),
        )
    };
    if attached != 0 {
        return Err(io::Error::last_os_error());
    }
    let everywhere = on_link(0);
    #[expect(unsafe_code, reason = "nix makes no link-layer address of its own")]
    // SAFETY: the address is whole and outlives the call, which only reads it.
    let bound = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const everywhere).cast(), size(&everywhere))
    };
    if bound == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

fn on_link(index: libc::c_int) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: IPV6,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    }
}

fn size<T>(_: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}

#[derive(Debug)]
pub(crate) struct FrameSocket(AsyncFd<OwnedFd>);

impl FrameSocket {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        #[expect(unsafe_code, reason = "registering trusts AsRawFd, which is safe to implement")]
        // SAFETY: an OwnedFd is the same open descriptor until it is dropped.
        let registered = unsafe { AsyncFd::register(socket)? };
        Ok(Self(registered))
    }

    /// The next frame whose link still exists, with that link. Cancel safe.
    pub(super) async fn receive(&self) -> io::Result<(Vec<u8>, LinkName)> {
        loop {
            let (frame, index) = self.0.async_io(Interest::READABLE, receive).await?;
            if let Some(link) = self.link_name(index) {
                return Ok((frame, link));
            }
        }
    }

    /// Sends a frame as it is out of `link`. What does not fit is lost, as on a wire.
    pub(super) fn send(&self, frame: &[u8], link: &LinkName) -> io::Result<()> {
        let to = on_link(self.link_index(link)?);
        let (data, length) = (frame.as_ptr().cast(), frame.len());
        let descriptor = self.0.get_ref().as_raw_fd();
        #[expect(unsafe_code, reason = "nix makes no link-layer address of its own")]
        // SAFETY: frame and address outlive the call, which only reads them.
        let sent =
            unsafe { libc::sendto(descriptor, data, length, 0, (&raw const to).cast(), size(&to)) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// In the socket's own namespace, as in the other direction.
    #[expect(unsafe_code, reason = "SIOCGIFINDEX is an ioctl without a wrapper")]
    fn link_index(&self, link: &LinkName) -> io::Result<libc::c_int> {
        let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 };
        let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru };
        for (to, from) in request.ifr_name.iter_mut().zip(link.as_str().bytes()) {
            *to = from.cast_signed();
        }
        let descriptor = self.0.get_ref().as_raw_fd();
        // SAFETY: the descriptor is open and `request` is a whole ifreq that outlives the call; the
        // kernel has filled in the index where it says so.
        unsafe {
            match libc::ioctl(descriptor, libc::SIOCGIFINDEX, &raw mut request) {
                0 => Ok(request.ifr_ifru.ifru_ifindex),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    fn link_name(&self, index: libc::c_int) -> Option<LinkName> {
        crate::dhcp::link_name(self.0.get_ref(), index)
    }
}

fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, libc::c_int)> {
    let mut frame = vec![0; MAX_FRAME];
    let mut from = on_link(0);
    let mut length = size(&from);
    let (data, space) = (frame.as_mut_ptr().cast(), frame.len());
    #[expect(unsafe_code, reason = "nix gives no link-layer address of a packet")]
    // SAFETY: buffer and address are as long as said and outlive the call.
    let received = unsafe {
        let from = (&raw mut from).cast();
        libc::recvfrom(socket.as_raw_fd(), data, space, 0, from, &raw mut length)
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    frame.truncate(received);
    Ok((frame, from.sll_ifindex))
}
