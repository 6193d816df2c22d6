//! Opening a tap that somebody made, in whatever network namespace it is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use nix::sched::{CloneFlags, setns};
use weft_model::LinkName;

use crate::sys;

/// Opens the tap `link` of `namespace`, or of the caller's own. A thread that entered another
/// namespace is good for nothing else, so it ends here; the descriptor stays attached.
///
/// # Errors
/// There is no such tap, or somebody has it open.
pub(crate) fn open(link: &LinkName, namespace: Option<&File>) -> io::Result<OwnedFd> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| -> io::Result<OwnedFd> {
            if let Some(namespace) = namespace {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
            }
            let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
            // TUNSETIFF makes an interface that is not there; it would end with this descriptor.
            if nix::net::if_::if_nametoindex(link.as_str()).is_err() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such interface"));
            }
            sys::attach_tap(tun.as_fd(), link.as_str())?;
            Ok(tun.into())
        });
        worker.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}
