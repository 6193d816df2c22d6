//! The connections that a VPC's namespace keeps track of: listed and, where nothing admits them any
//! more, forgotten. ctnetlink over a socket of its own: rtnetlink's crate speaks another protocol.
//!
//! Numbers are those of Linux `nfnetlink.h` and `nfnetlink_conntrack.h`.

mod message;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use weft_model::TrackedFlow;

use crate::{Namespace, NetworkError};
use message::Answer;

/// How long the kernel may take for one answer.
const DEADLINE_SECONDS: i64 = 5;
/// More than the kernel puts into one datagram of a dump (`NLMSG_GOODSIZE`, 32 KiB at most).
const BUFFER_BYTES: usize = 64 * 1024;

/// Every connection that is tracked in `namespace`, of both families. One that was expected by
/// another (FTP's data) stands and falls with that and is left out.
///
/// # Errors
/// The kernel cannot be asked.
pub fn connections(namespace: &Namespace) -> Result<Vec<TrackedFlow>, NetworkError> {
    namespace.enter(dump)?.map_err(|source| NetworkError::Conntrack {
        action: format!("list the connections {}", namespace.name()),
        source,
    })
}

/// Forgets `flows`, whose next packets are then judged as new ones; one that has ended is no error.
///
/// # Errors
/// The kernel refuses; those before it are forgotten.
pub fn forget(namespace: &Namespace, flows: &[TrackedFlow]) -> Result<(), NetworkError> {
    let delete = || {
        let socket = open()?;
        flows.iter().try_for_each(|flow| delete_one(&socket, flow))
    };
    namespace.enter(delete)?.map_err(|source| NetworkError::Conntrack {
        action: format!("forget connections {}", namespace.name()),
        source,
    })
}

fn open() -> io::Result<OwnedFd> {
    let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
    let socket = socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkNetFilter)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(DEADLINE_SECONDS, 0))?;
    Ok(socket)
}

fn dump() -> io::Result<Vec<TrackedFlow>> {
    let socket = open()?;
    send(socket.as_raw_fd(), &message::list(), MsgFlags::empty())?;
    let mut flows = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for answer in message::answers(buffer.get(..length).unwrap_or_default()) {
            match answer {
                Answer::Flow(flow) => flows.push(flow),
                Answer::Other => {}
                Answer::Done => return Ok(flows),
                Answer::Failed(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}

fn delete_one(socket: &OwnedFd, flow: &TrackedFlow) -> io::Result<()> {
    send(socket.as_raw_fd(), &message::delete(flow), MsgFlags::empty())?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    for answer in message::answers(buffer.get(..length).unwrap_or_default()) {
        if let Answer::Failed(errno) = answer
            && errno != libc::ENOENT
        {
            return Err(io::Error::from_raw_os_error(errno));
        }
    }
    Ok(())
}
