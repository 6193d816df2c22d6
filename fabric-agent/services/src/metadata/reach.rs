//! How far the answers on a connection go: EC2's `http_put_response_hop_limit`.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use tokio::net::TcpStream;

/// A connection's IP TTL. It only ever falls: TCP may send what it has sent once more, and a token
/// must not go farther than its limit then.
#[derive(Clone, Debug)]
pub(crate) struct Reach(Arc<OwnedFd>);

impl Reach {
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self(Arc::new(stream.as_fd().try_clone_to_owned()?)))
    }

    /// From now on nothing on this connection goes farther than `hops`.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn limit(&self, hops: u8) -> io::Result<()> {
        let now = getsockopt(&*self.0, sockopt::Ipv4Ttl)?;
        setsockopt(&*self.0, sockopt::Ipv4Ttl, &now.min(hops.into()))?;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn hops(&self) -> i32 {
        getsockopt(&*self.0, sockopt::Ipv4Ttl).unwrap()
    }
}
