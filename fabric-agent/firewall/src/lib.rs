//! The packet filter of a VPC: security groups as nftables rules, in one table of its namespace.
//!
//! The decisions are pure: [`full`] and [`changes()`] turn a [`Firewall`] into commands. [`Nft`]
//! hands commands to `nft` inside a namespace, each call one transaction. Nothing outside our own
//! table is read or changed. Both directions are judged: a packet between two guests must be let
//! out by the sender's groups and let in by the receiver's.

mod changes;
mod host;
mod json;
mod nft;
mod observe;
mod ruleset;

use weft_model::Firewall;

use changes::Image;
use ruleset::Ruleset;

pub use host::{HostNat, host_nat, keep_apart};
pub use json::{Chain, Command, Element, Expression, Family, Object, Rule, Set, Statement};
pub use nft::{FirewallError, Nft};
pub use observe::ObservedFirewall;

/// Replaces `table` with what `firewall` needs, whatever it held, in one transaction.
pub fn full(table: &str, firewall: &Firewall) -> Vec<Command> {
    changes::full(table, &Ruleset::of(firewall))
}

/// The smallest transaction from `old`, as it was applied, to `new`; empty if nothing differs.
/// A member that joins or leaves is one set element; a changed rule rewrites its group's chain.
pub fn changes(table: &str, old: &Firewall, new: &Firewall) -> Vec<Command> {
    changes::from(table, &Image::from(&Ruleset::of(old)), &Ruleset::of(new))
}

/// Removes `table`, whether it exists or not.
pub fn remove(table: &str) -> Vec<Command> {
    changes::remove(table)
}
