//! Packet sockets: packet(7), Linux `include/uapi/linux/if_packet.h`.
#![expect(unsafe_code, reason = "packet sockets have no wrapper in the standard library")]

use std::ffi::{CString, c_int};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

/// Bytes of frames that may wait to be read: much more than a flood of the suite.
const BUFFER: c_int = 16 << 20;

/// A link, to send frames or to hear them.
pub(crate) struct Link(File);

impl Link {
    /// Hears nothing.
    pub(crate) fn to_send(name: &str) -> io::Result<Self> {
        Self::open(name, 0)
    }

    /// Hears all that comes in, and nothing that goes out.
    pub(crate) fn to_listen(name: &str) -> io::Result<Self> {
        let every = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
        let link = Self::open(name, every.to_be())?;
        link.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)?;
        link.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        Ok(link)
    }

    /// `protocol` in network byte order, 0 for none.
    fn open(name: &str, protocol: u16) -> io::Result<Self> {
        let name = CString::new(name)?;
        // SAFETY: a C string that outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let index = c_int::try_from(index).map_err(io::Error::other)?;
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // Without a protocol: nothing of another link comes before it is bound.
        // SAFETY: no pointers.
        let socket =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else has.
        let file = unsafe { File::from_raw_fd(socket) };
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
            sll_protocol: protocol,
            sll_ifindex: index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = socklen::<libc::sockaddr_ll>()?;
        // SAFETY: a whole sockaddr_ll of that length.
        checked(unsafe { libc::bind(socket, (&raw const address).cast(), length) })?;
        Ok(Self(file))
    }

    fn set(&self, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
        let (fd, at) = (self.0.as_raw_fd(), (&raw const value).cast());
        // SAFETY: an int of that length, which outlives the call.
        checked(unsafe { libc::setsockopt(fd, level, option, at, socklen::<c_int>()?) })
    }

    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            match (&self.0).write(frame) {
                // The link's queue is full: it empties itself.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    std::thread::yield_now()
                }
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// The next frame's length, cut to the buffer's.
    pub(crate) fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(frame)
    }

    /// Frames that found no room since this was last asked.
    pub(crate) fn lost(&self) -> io::Result<u32> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = socklen::<libc::tpacket_stats>()?;
        let (fd, at) = (self.0.as_raw_fd(), (&raw mut stats).cast());
        // SAFETY: a whole tpacket_stats of that length, which outlives the call.
        checked(unsafe {
            libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, at, &raw mut length)
        })?;
        Ok(stats.tp_drops)
    }
}

fn socklen<T>() -> io::Result<libc::socklen_t> {
    size_of::<T>().try_into().map_err(io::Error::other)
}

fn checked(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
