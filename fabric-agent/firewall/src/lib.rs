//! The packet filter of a VPC: security groups as nftables rules, in one table of its namespace.
//!
//! The decisions are pure: [`full`] and [`changes()`] turn a [`Firewall`] into commands. [`Nft`]
//! hands commands to `nft` inside a namespace, each call one transaction. Nothing outside our own
//! table is read or changed. Both directions are judged: a packet between two guests must be let
//! out by the sender's groups and let in by the receiver's.

mod changes;
mod counters;
mod host;
mod json;
mod nft;
mod observe;
mod ruleset;

use weft_model::Firewall;

use changes::{Image, Table};
use ruleset::{Common, Ruleset};

pub use host::{HostNat, host_changes, host_nat, keep_apart};
pub use json::{Chain, Command, Element, Expression, Family, Object, Rule, Set, Statement};
pub use nft::{FirewallError, Nft};
pub use observe::ObservedFirewall;

/// Replaces `table` with what `firewall` needs, whatever it held, in one transaction; where the
/// VPC is a bridge, also the table of that name in the bridge family.
pub fn full(table: &str, firewall: &Firewall) -> Vec<Command> {
    let mut commands = changes::full(Table::inet(table), &Ruleset::of(firewall));
    if let Some(frames) = Ruleset::of_bridge(firewall) {
        commands.extend(changes::full(Table::bridge(table), &frames));
    }
    commands
}

/// The smallest transaction from `old`, as it was applied, to `new`; empty if nothing differs.
/// A member that joins or leaves is one set element; a changed rule rewrites its group's chain.
pub fn changes(table: &str, old: &Firewall, new: &Firewall) -> Vec<Command> {
    let common = Common::of(old, new);
    let (from, to) = (Ruleset::except(old, &common), Ruleset::except(new, &common));
    let steps = changes::between(Table::inet(table), &Image::from(&from), &to);
    let mut commands =
        steps.unwrap_or_else(|| changes::full(Table::inet(table), &Ruleset::of(new)));
    if !(common.has_interfaces() && old.bridge == new.bridge) {
        let frames = Ruleset::of_bridge(old);
        commands.extend(frame_changes(table, frames.as_ref().map(Image::from).as_ref(), new));
    }
    commands
}

/// From what the tables of both families hold to `new`.
fn from_seen(table: &str, seen: &Image, frames: Option<&Image>, new: &Firewall) -> Vec<Command> {
    let mut commands = changes::from(Table::inet(table), seen, &Ruleset::of(new));
    commands.extend(frame_changes(table, frames, new));
    commands
}

fn frame_changes(table: &str, frames: Option<&Image>, new: &Firewall) -> Vec<Command> {
    match (frames, Ruleset::of_bridge(new)) {
        (Some(old), Some(new)) => changes::from(Table::bridge(table), old, &new),
        (None, Some(new)) => changes::full(Table::bridge(table), &new),
        (Some(_), None) => changes::remove(Table::bridge(table)),
        (None, None) => Vec::new(),
    }
}

/// Removes `table`, whether it exists or not; a bridge's vanishes with its namespace.
pub fn remove(table: &str) -> Vec<Command> {
    changes::remove(Table::inet(table))
}
