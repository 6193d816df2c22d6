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
pub use json::{Chain, Command, Element, Expression, Family, Object, Over, Rule, Set, Statement};
pub use nft::{FirewallError, Nft};
pub use observe::ObservedFirewall;

/// Replaces `table` with what `firewall` needs, whatever it held, in one transaction; and the table
/// of that name beside it, of the bridge family or of the arp family.
pub fn full(table: &str, firewall: &Firewall) -> Vec<Command> {
    let mut commands = changes::full(Table::inet(table), &Ruleset::of(firewall));
    let (family, frames) = Ruleset::of_frames(firewall);
    commands.extend(changes::full(Table::of(family, table), &frames));
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
    let same_links = old.bridge == new.bridge && old.uplink == new.uplink;
    if !(common.has_interfaces() && same_links) {
        let (family, frames) = Ruleset::of_frames(old);
        commands.extend(frame_changes(table, Some((family, &Image::from(&frames))), new));
    }
    commands
}

/// From what the tables of both families hold to `new`.
fn from_seen(
    table: &str,
    seen: &Image,
    frames: Option<(Family, &Image)>,
    new: &Firewall,
) -> Vec<Command> {
    let mut commands = changes::from(Table::inet(table), seen, &Ruleset::of(new));
    commands.extend(frame_changes(table, frames, new));
    commands
}

fn frame_changes(table: &str, old: Option<(Family, &Image)>, new: &Firewall) -> Vec<Command> {
    let (family, wanted) = Ruleset::of_frames(new);
    let writer = Table::of(family, table);
    match old {
        Some((before, old)) if before == family => changes::from(writer, old, &wanted),
        Some((before, _)) => {
            let mut commands = changes::remove(Table::of(before, table));
            commands.extend(changes::full(writer, &wanted));
            commands
        }
        None => changes::full(writer, &wanted),
    }
}

/// Removes `table`, whether it exists or not; the one beside it vanishes with its namespace.
pub fn remove(table: &str) -> Vec<Command> {
    changes::remove(Table::inet(table))
}
