//! What a VPC offers its guests besides wires: addresses by DHCP, metadata as EC2 serves it, and
//! names, its own and, by forwarding, all others.
//!
//! ```text
//!   guest ── tap ──▶ VPC's namespace: 0.0.0.0:67          DHCP, answered by (link, MAC)
//!                                     169.254.169.254:80  metadata; a token goes one hop far
//!                                     169.254.169.253:53  DNS; also on each gateway
//!                                     fe80::1             router advertisements and DHCPv6
//!                                          │ sockets opened inside, served from outside
//!                                          ▼
//!                    agent's namespace: Directory (who is that?), the host's resolvers
//! ```
//!
//! Guests are hostile. Who asks is known by link, MAC and source address, which the packet filter
//! makes true; whoever is not known is not answered. Everything is bounded: sizes, times, and how
//! much one guest, one VPC and all of them may ask for at once. What is refused is counted. Nothing here knows the store, and nothing changes a host.

mod dhcp;
mod directory;
mod dns;
#[cfg(test)]
mod fuzz;
mod guests;
mod metadata;
mod refusals;
mod sockets;
#[cfg(test)]
mod testing;
mod v6;
mod vpc;

pub use directory::{
    Directory, Guest, GuestInterface, GuestKey, GuestV6, Lease, LeaseV6, Names, NotTaken, Report,
    RouterV6, Seen,
};
pub use dns::Resolvers;
pub use metadata::TokenKey;
pub use refusals::{Refusals, Refused};
pub use sockets::{SocketError, Sockets};
pub use vpc::{Services, VpcServices};
