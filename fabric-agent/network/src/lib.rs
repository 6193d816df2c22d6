//! Links, routes and namespaces of VPCs: thin effects, each idempotent, none with a decision.
//!
//! ```text
//!  agent's namespace                 VPC's namespace (held by a process of ours)
//!  host_addr -- veth pair ---------- guest_addr   default route out
//!  route to the VPC's range          lo: the routers' addresses, one per subnet
//!                                    tap per interface: /32 route, neighbour, proxy ARP
//! ```
//! There is no layer 2 between guests: every packet is routed, and so filtered. A VPC can be a
//! bridge instead, whose ports are filtered too:
//! ```text
//!  the operator's bridge -- veth pair -- our bridge: the agent's addresses, for its services
//!                                        a port, MAC and neighbour per interface
//! ```
//! Instead of a bridge the operator can name a link: then a small bridge of ours is around it, or,
//! for one VLAN of it, the port of our bridge is a VLAN link on it. See [`join_lan`].
//!
//! What is ours is marked: links by their alias, routes by protocol 201, and in a VPC's namespace all of it.

mod base;
mod bridge;
mod conntrack;
mod counters;
mod error;
pub mod holder;
mod host;
mod lan;
mod namespace;
mod netlink;
mod observe;
mod pair;
mod port;
mod public;
mod routes;
mod shaper;
mod sysctl;
mod sysctl_v6;
mod tap;
mod uplink;
mod v6;

pub use base::ensure_base;
pub use bridge::ensure_bridge;
pub use conntrack::{connections, forget};
pub use counters::counters;
pub use error::NetworkError;
pub use holder::{HolderArgs, HolderRecord};
pub use host::{enable_forwarding, first_free_range, forwards, overlaps, own_addresses, uplinks};
pub use lan::{check_lan, has_vlans, join_lan, leave_lan, remove_strays};
pub use namespace::{HolderCommand, Namespace};
pub use observe::observe;
pub use public::{answer_for, unanswered};
pub use routes::set_routes;
pub use tap::{add_tap, remove_tap, tap_down, tap_up};
pub use uplink::{ensure_uplink, remove_uplink};
