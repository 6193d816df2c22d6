//! Addresses and ports that the outside reaches, and what leads from there to a guest.

mod pool;
mod target;

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ElasticIpId, Name};

pub use pool::{AddressRange, PublicPool};
pub use target::{Association, AssociationId, Target};

crate::image::words! {
    /// A protocol with ports.
    TransportProtocol {
        /// Protocol 6.
        Tcp = "tcp",
        /// Protocol 17.
        Udp = "udp",
    }
}

/// An address of the public pool that somebody keeps, in use or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElasticIpSpec {
    /// Shown to people.
    pub name: Option<Name>,
    /// Whether its owner asked for just this address.
    pub chosen: bool,
    /// The address.
    pub public_ip: Ipv4Addr,
}

/// An elastic IP as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElasticIpOrder {
    /// Shown to people.
    pub name: Option<Name>,
    /// The address; `None` is the lowest one that is free.
    pub address: Option<Ipv4Addr>,
}

/// An elastic IP leads to an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssociationSpec {
    /// The elastic IP.
    pub elastic_ip_id: ElasticIpId,
    /// The interface, or the instance whose primary interface it is.
    pub target: Target,
}

/// A port of the host's own addresses leads to a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortForwardSpec {
    /// Shown to people.
    pub name: Name,
    /// Of which protocol.
    pub protocol: TransportProtocol,
    /// The host's address; `None` is each of them.
    pub host_address: Option<Ipv4Addr>,
    /// The host's port.
    pub host_port: u16,
    /// Who answers.
    pub target: Target,
    /// At which port.
    pub target_port: u16,
}

/// A port of the host's own addresses that leads into a VPC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostForward {
    /// Of which protocol.
    pub protocol: TransportProtocol,
    /// The port, here and there.
    pub port: u16,
    /// One of the host's addresses; `None` is each, but for 127.0.0.0/8: what the host sends to
    /// itself has a source there that no guest could answer.
    pub address: Option<Ipv4Addr>,
    /// The inner end of the VPC's uplink.
    pub to: Ipv4Addr,
}

/// A port of the host that guests may use though it is closed to them otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GuestAccess {
    /// Of which protocol.
    pub protocol: TransportProtocol,
    /// The port.
    pub port: u16,
}

impl FromStr for GuestAccess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let parsed = parts.and_then(|(protocol, port)| {
            let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
            Some(Self { protocol: protocol.parse().ok()?, port })
        });
        parsed.ok_or_else(|| {
            format!("\"{text}\" is no port of a protocol: write one such as tcp/8080 or udp/123")
        })
    }
}

impl fmt::Display for GuestAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_for_guests_is_a_protocol_and_a_number() {
        for text in ["tcp/8080", "udp/123"] {
            assert_eq!(text.parse::<GuestAccess>().unwrap().to_string(), text);
        }
        for text in ["", "tcp", "8080", "tcp/0", "tcp/65536", "icmp/8", "tcp/80/81", "TCP/80"] {
            assert!(text.parse::<GuestAccess>().is_err(), "{text}");
        }
    }
}
