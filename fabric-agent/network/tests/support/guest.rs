//! A stand-in guest: a namespace with `eth0`, whose frames come out of a real tap.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use weft_model::{LinkName, ROUTER_V6, TapInterface};
use weft_network::Namespace;

use super::ip;

/// How long a packet that is let through may take; what is dropped costs this long to know.
const PATIENCE: Duration = Duration::from_millis(700);

pub(crate) fn new_namespace() -> Namespace {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Namespace::current().unwrap()
    };
    std::thread::spawn(make).join().unwrap()
}

/// Moves a link by a descriptor that the child inherits under a number of its own.
pub(crate) fn move_link(from: &Namespace, link: &str, to: &Namespace) {
    let path = format!("/proc/{}/fd/{}", std::process::id(), fd_number(to));
    ip(from, &format!("link set {link} netns {path}"));
}

fn fd_number(namespace: &Namespace) -> String {
    let path = namespace.path();
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

pub(crate) struct Guest {
    pub(crate) namespace: Namespace,
    pub(crate) address: Ipv4Addr,
    tap: OwnedFd,
    unplugged: Arc<AtomicBool>,
    wire: Option<std::thread::JoinHandle<()>>,
}

impl Guest {
    pub(crate) fn plug_in(vpc: &Namespace, tap: &LinkName, interface: &TapInterface) -> Self {
        let namespace = new_namespace();
        ip(&namespace, "link set lo up");
        ip(&namespace, "tuntap add dev eth0 mode tap vnet_hdr");
        ip(&namespace, &format!("link set eth0 address {}", interface.mac));
        let ends =
            [open_tap(vpc, tap).unwrap(), open_tap(&namespace, &"eth0".parse().unwrap()).unwrap()];
        let tap = ends[0].try_clone().unwrap();
        let unplugged = Arc::new(AtomicBool::new(false));
        let stop = unplugged.clone();
        let wire = Some(std::thread::spawn(move || copy_frames(&ends, &stop)));
        ip(&namespace, "link set eth0 up");
        ip(&namespace, &format!("addr add {}/24 dev eth0", interface.address));
        ip(&namespace, &format!("route add default via {}", interface.gateway));
        if let Some(address) = interface.ipv6 {
            ip(&namespace, &format!("-6 addr add {address}/128 dev eth0 nodad"));
            ip(&namespace, &format!("-6 route add default via {ROUTER_V6} dev eth0"));
        }
        Self { namespace, address: interface.address, tap, unplugged, wire }
    }

    /// Sends a frame as it is, as if its own kernel had.
    pub(crate) fn inject(&self, frame: &[u8]) {
        let with_header = [&[0; 10], frame].concat();
        assert_eq!(nix::unistd::write(&self.tap, &with_header).unwrap(), with_header.len());
    }

    pub(crate) fn ip(&self, arguments: &str) {
        ip(&self.namespace, arguments);
    }

    /// Answers every connection to `port` with the peer's address, then echoes.
    pub(crate) fn serve(&self, port: u16) {
        serve(&self.namespace, port);
    }

    pub(crate) fn connects(&self, to: Ipv4Addr, port: u16) -> bool {
        connect(&self.namespace, to, port).is_some()
    }

    /// Whether `to` answers an echo request.
    pub(crate) fn pings(&self, to: Ipv4Addr) -> bool {
        let socket = raw_icmp(&self.namespace);
        send_icmp(&socket, 8, 0, to);
        sees_icmp(&socket, 0, 0)
    }

    /// Whether a datagram from `source` (`None`: the guest's own address) reaches `to`.
    /// The address must be on one of the guest's links.
    pub(crate) fn datagram_arrives(&self, source: Option<Ipv4Addr>, to: &Guest) -> bool {
        let bind = |at| move || UdpSocket::bind((at, 0)).unwrap();
        let receiver = to.namespace.enter(bind(Ipv4Addr::UNSPECIFIED)).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let sender = self.namespace.enter(bind(source.unwrap_or(self.address))).unwrap();
        let port = receiver.local_addr().unwrap().port();
        sender.send_to(b"hello", (to.address, port)).unwrap();
        receiver.recv_from(&mut [0; 16]).is_ok()
    }

    /// Whether an ICMP message of this type and code reaches `to`.
    pub(crate) fn icmp_arrives(&self, kind: u8, code: u8, to: &Guest) -> bool {
        let receiver = raw_icmp(&to.namespace);
        send_icmp(&raw_icmp(&self.namespace), kind, code, to.address);
        sees_icmp(&receiver, kind, code)
    }
}

/// Opens an existing tap as a hypervisor does; frames carry a `virtio_net_hdr`.
#[expect(unsafe_code, reason = "TUNSETIFF is an ioctl without a wrapper")]
pub(crate) fn open_tap(namespace: &Namespace, link: &LinkName) -> std::io::Result<OwnedFd> {
    let open = || {
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let mut options = std::fs::OpenOptions::new();
        let tun = options.read(true).write(true).custom_flags(flags).open("/dev/net/tun")?;
        let mut ifr_name = [0; libc::IFNAMSIZ];
        for (to, from) in ifr_name.iter_mut().zip(link.as_str().bytes()) {
            *to = from.cast_signed();
        }
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let ifru_flags = libc::c_short::try_from(flags).unwrap();
        let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags };
        let request = libc::ifreq { ifr_name, ifr_ifru };
        // SAFETY: the descriptor is open and `request` is a whole ifreq that outlives the call.
        let done = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
        if done == 0 { Ok(tun.into()) } else { Err(std::io::Error::last_os_error()) }
    };
    namespace.enter(open).unwrap()
}

/// A socket that sends frames as they are out of `link`.
pub(crate) fn packet_socket(namespace: &Namespace, link: &str) -> OwnedFd {
    let open = || {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap();
        let index = nix::net::if_::if_nametoindex(link).unwrap();
        let mut to = [0; 20];
        to[..2].copy_from_slice(&(libc::AF_PACKET as u16).to_ne_bytes());
        to[4..8].copy_from_slice(&index.to_ne_bytes());
        #[expect(unsafe_code, reason = "nix makes no link-layer address of its own")]
        // SAFETY: 20 bytes are a whole sockaddr_ll, and outlive the call, which only reads them.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), to.as_ptr().cast(), 20) };
        assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
        socket
    };
    namespace.enter(open).unwrap()
}

fn raw_icmp(namespace: &Namespace) -> OwnedFd {
    let (family, flags) = (AddressFamily::Inet, SockFlag::SOCK_CLOEXEC);
    let open = || socket(family, SockType::Raw, flags, SockProtocol::Icmp).unwrap();
    namespace.enter(open).unwrap()
}

fn send_icmp(socket: &OwnedFd, kind: u8, code: u8, to: Ipv4Addr) {
    let mut message = [kind, code, 0, 0, 0x57, 0x45, 0, 0];
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
    // A tap that is down has no route to anywhere; that is no answer either.
    let _ = sendto(socket.as_raw_fd(), &message, &to, MsgFlags::empty());
}

/// Whether a message of this type and code, with the identifier that we send, comes in.
fn sees_icmp(socket: &OwnedFd, kind: u8, code: u8) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, u16::try_from(left.as_millis()).unwrap()).unwrap() == 0 {
            return false;
        }
        let mut packet = [0; 128];
        let length = nix::unistd::read(socket, &mut packet).unwrap();
        // A raw socket shows the IP header, 20 bytes without options.
        let seen = packet[..length].get(20..26);
        if seen.is_some_and(|p| [p[0], p[1], p[4], p[5]] == [kind, code, 0x57, 0x45]) {
            return true;
        }
    }
    false
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.unplugged.store(true, Ordering::Relaxed);
        self.wire.take().unwrap().join().unwrap();
    }
}

/// A connection to `to`, with the address that it was seen from.
pub(crate) fn connect(from: &Namespace, to: Ipv4Addr, port: u16) -> Option<(TcpStream, IpAddr)> {
    let address = SocketAddr::from((to, port));
    let mut stream = from.enter(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap().ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut seen = [0; 4];
    stream.read_exact(&mut seen).ok()?;
    Some((stream, IpAddr::from(seen)))
}

pub(crate) fn echoes(stream: &mut TcpStream) -> bool {
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0; 1]).is_ok()
}

pub(crate) fn serve(namespace: &Namespace, port: u16) {
    let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let listener = namespace.enter(listen).unwrap();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let IpAddr::V4(peer) = stream.peer_addr().unwrap().ip() else { return };
                stream.write_all(&peer.octets()).unwrap();
                let mut buffer = [0; 512];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..length]).unwrap();
                }
            });
        }
    });
}

/// Answers every datagram to `at` with what `answer` makes of it.
pub(crate) fn serve_datagrams(
    namespace: &Namespace,
    at: (Ipv4Addr, u16),
    answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
) {
    let socket = namespace.enter(|| UdpSocket::bind(at)).unwrap().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&answer(&buffer[..length]), from).unwrap();
        }
    });
}

fn copy_frames(ends: &[OwnedFd; 2], stop: &AtomicBool) {
    let mut frame = vec![0; 65_600];
    while !stop.load(Ordering::Relaxed) {
        let mut ready = ends.each_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        poll(&mut ready, 50u16).unwrap();
        for (from, to) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
            // A tap that is down refuses with EIO: a cable that is not plugged in.
            while let Ok(length @ 1..) = nix::unistd::read(from, &mut frame) {
                let _ = nix::unistd::write(to, &frame[..length]);
            }
        }
    }
}

pub(crate) fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(folded & 0xffff).unwrap()
}
