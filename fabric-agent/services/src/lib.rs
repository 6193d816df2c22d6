//! What a VPC offers its guests besides wires: addresses by DHCP, metadata as EC2 serves it, and
//! names by forwarding.
//!
//! ```text
//!   guest ── tap ──▶ VPC's namespace: 0.0.0.0:67          DHCP, answered by (link, MAC)
//!                                     169.254.169.254:80  metadata, tokens required, TTL 1
//!                                     169.254.169.253:53  DNS; also on each gateway
//!                                          │ sockets opened inside, served from outside
//!                                          ▼
//!                    agent's namespace: Directory (who is that?), the host's resolvers
//! ```
//!
//! Guests are hostile. Who asks is known by link, MAC and source address, which the packet filter
//! makes true; whoever is not known is not answered. Everything is bounded: sizes, times, and how
//! much one guest may ask for at once. Nothing here knows the store, and nothing changes a host.

mod dhcp;
mod directory;
mod dns;
mod guests;
mod metadata;
mod sockets;
#[cfg(test)]
mod testing;
mod vpc;

pub use directory::{Directory, Guest, GuestKey, Lease, Names, NotTaken, Report, Seen};
pub use dns::Resolvers;
pub use metadata::TokenKey;
pub use sockets::{SocketError, Sockets};
pub use vpc::{Services, VpcServices};
