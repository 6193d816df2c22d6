//! What the agent's own namespace needs: guests leave by the host's address, and VPCs do not
//! reach each other through the host.

use std::collections::BTreeSet;

use ipnetwork::Ipv4Network;
use weft_model::LinkName;

use crate::ObservedFirewall;
use crate::changes::{self, Table};
use crate::json::{Command, Expression, Statement};
use crate::ruleset::{ChainBody, Hook, RuleBody, Ruleset, SetBody, payload};

/// The set of our links. By name, one by one: a pattern such as `PREFIX*` could also mean a link
/// of the host's owner.
const LINKS: &str = "base_links";
/// The chain that keeps VPCs apart.
const APART: &str = "base_apart";

/// The host's side of all VPCs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNat {
    /// All our links in the agent's namespace.
    pub links: BTreeSet<LinkName>,
    /// Sources that leave the host by its own address.
    pub sources: BTreeSet<Ipv4Network>,
}

/// Replaces `table` in the agent's namespace. Take it away with [`remove`](crate::remove).
///
/// Only packets that cross our links are touched; policies are `accept`.
pub fn host_nat(table: &str, wanted: &HostNat) -> Vec<Command> {
    changes::full(Table::inet(table), &ruleset(wanted))
}

/// Adds `link` to those that are kept apart and leaves the rest of `table`, which was `seen` to
/// hold something, as it is: for a link that is about to be made, before anything can cross it.
/// Empty if it is there already; a table that does not keep links apart is replaced.
pub fn keep_apart(table: &str, seen: Option<&ObservedFirewall>, link: &LinkName) -> Vec<Command> {
    let alone = HostNat { links: [link.clone()].into(), sources: BTreeSet::new() };
    let element = vec![link.to_string()];
    match seen.and_then(kept_apart) {
        Some(links) if links.elements.contains_key(&element) => Vec::new(),
        Some(_) => changes::add_element(Table::inet(table), LINKS, &element),
        None => host_nat(table, &alone),
    }
}

/// The links that a table keeps apart, if it does that as we would.
fn kept_apart(seen: &ObservedFirewall) -> Option<&SetBody> {
    let (image, ours) = (seen.image(), changes::Image::from(&ruleset(&HostNat::default())));
    let set = image.sets.get(LINKS)?;
    let same_kind = set.types == [LINK_TYPE] && !set.is_map;
    (same_kind && image.chains.get(APART) == ours.chains.get(APART)).then_some(set)
}

const LINK_TYPE: &str = "ifname";

pub(crate) fn ruleset(wanted: &HostNat) -> Ruleset {
    let ours = || Expression::text(format!("@{LINKS}"));
    let link = |key| Expression::Meta { key };
    let apart = vec![
        Statement::is(link("iifname"), ours()),
        Statement::is(link("oifname"), ours()),
        Statement::Counter(()),
        Statement::Drop(()),
    ];
    let hide = wanted.sources.iter().map(|source| {
        let addr = source.network().to_string();
        let range = if source.prefix() == 32 {
            Expression::text(addr)
        } else {
            Expression::Prefix { addr, len: source.prefix() }
        };
        let masquerade = vec![
            Statement::is(payload("ip", "saddr"), range),
            Statement::is(link("iifname"), ours()),
            Statement::is_not(link("oifname"), ours()),
            Statement::Masquerade(()),
        ];
        RuleBody::new(&source.to_string(), masquerade)
    });
    let hook = |kind: &str, hook: &str, priority| Hook {
        kind: kind.into(),
        hook: hook.into(),
        priority,
        policy: "accept".into(),
    };
    let forward = ChainBody {
        hook: Some(hook("filter", "forward", 0)),
        rules: vec![RuleBody::new("apart", apart)],
    };
    let nat = ChainBody { hook: Some(hook("nat", "postrouting", 100)), rules: hide.collect() };
    let chains = [(APART.to_owned(), forward), ("base_nat".to_owned(), nat)];
    let links = SetBody {
        types: vec![LINK_TYPE.to_owned()],
        is_map: false,
        elements: wanted.links.iter().map(|link| (vec![link.to_string()], None)).collect(),
    };
    Ruleset {
        chains: chains.into(),
        sets: [(LINKS.to_owned(), links)].into(),
        ..Ruleset::default()
    }
}
