//! What is found at the SSH port of a guest.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use crate::error_chain::{ErrorChain, causes};

/// What one attempt found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SshProbe {
    /// A server with the expected host key.
    Ready,
    /// Something else.
    NotYet(SshSeen),
}

/// What was found instead of a server with the expected host key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SshSeen {
    /// Nobody answered, neither yes nor no.
    Silent,
    /// The guest's kernel answered that nobody listens.
    Refused,
    /// Somebody took the connection, and no keys were exchanged; why.
    NoExchange(String),
    /// A server with another host key, and that key's fingerprint: somebody else, or an image that
    /// ignores the seed.
    WrongKey(String),
    /// The port could not be asked; why.
    NotAsked(String),
}

impl SshSeen {
    /// What a failed connection says.
    pub(crate) fn unconnected(error: &(dyn Error + 'static)) -> Self {
        let mut by_io = causes(error).filter_map(|error| error.downcast_ref::<io::Error>());
        match by_io.next().map(io::Error::kind) {
            Some(ErrorKind::ConnectionRefused) => Self::Refused,
            // Nobody answers ARP requests for the address, or the SYN.
            Some(ErrorKind::HostUnreachable | ErrorKind::TimedOut) => Self::Silent,
            _ => Self::NotAsked(ErrorChain(error).to_string()),
        }
    }
}

impl fmt::Display for SshSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("nothing answers there"),
            Self::Refused => f.write_str("the guest refuses the connection: no server listens"),
            Self::NoExchange(why) => {
                write!(f, "the connection is accepted, and there is no SSH key exchange: {why}")
            }
            Self::WrongKey(key) => write!(
                f,
                "an SSH server answers with another host key ({key}): the image ignores the seed"
            ),
            Self::NotAsked(why) => write!(f, "it could not be asked: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostError;

    #[test]
    fn what_a_failed_connection_says_is_told_apart_by_its_cause() {
        let failed = |kind: ErrorKind| {
            let error =
                HostError::new("connect to 10.0.0.4:22", true).caused_by(io::Error::from(kind));
            SshSeen::unconnected(&error)
        };
        assert_eq!(failed(ErrorKind::ConnectionRefused), SshSeen::Refused);
        assert_eq!(failed(ErrorKind::TimedOut), SshSeen::Silent);
        assert_eq!(failed(ErrorKind::HostUnreachable), SshSeen::Silent);
        let other = failed(ErrorKind::PermissionDenied);
        assert_eq!(
            other.to_string(),
            "it could not be asked: connect to 10.0.0.4:22: permission denied"
        );
    }
}
