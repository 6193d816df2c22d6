//! What the agent's own namespace needs: guests leave by the host's address or their public one,
//! VPCs do not reach each other through the host but by public addresses, ports of the host lead
//! to guests, and the host itself is closed to them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use weft_model::{GuestAccess, HostForward, LinkName};

use crate::ObservedFirewall;
use crate::changes::{self, Table};
use crate::json::{Command, Expression, Statement};
use crate::ruleset::base::known_connections;
use crate::ruleset::{ChainBody, Hook, RuleBody, Ruleset, SetBody, payload, set_of, sources_v6};

/// The set of our links. By name, one by one: a pattern such as `PREFIX*` could also mean a link
/// of the host's owner.
const LINKS: &str = "base_links";
/// The set of public addresses that guests have.
const PUBLIC: &str = "base_public";
/// Those of them that nobody beyond the host would send answers to.
const HIDDEN: &str = "base_hidden";
/// The chain that keeps VPCs apart.
const APART: &str = "base_apart";
/// The chain that keeps guests from the host itself.
const CLOSED: &str = "base_closed";
/// Echo requests from guests that the host answers, all guests together.
const ECHO_PER_SECOND: u32 = 50;

/// The host's side of all VPCs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNat {
    /// All our links in the agent's namespace.
    pub links: BTreeSet<LinkName>,
    /// Sources that leave the host by its own address.
    pub sources: BTreeSet<Ipv4Network>,
    /// The same of IPv6.
    pub sources_v6: BTreeSet<Ipv6Network>,
    /// Public addresses that guests have: the only way from one VPC into another.
    pub public: BTreeSet<Ipv4Addr>,
    /// Those of `public` that leave the host by its own address too.
    pub hidden: BTreeSet<Ipv4Addr>,
    /// Ports of the host that lead to guests.
    pub forwards: BTreeSet<HostForward>,
    /// Ports of the host that guests may use.
    pub guest_access: BTreeSet<GuestAccess>,
}

/// Replaces `table` in the agent's namespace. Take it away with [`remove`](crate::remove).
///
/// Only packets that cross our links, or are for one of our forwarded ports, are touched; policies
/// are `accept`.
pub fn host_nat(table: &str, wanted: &HostNat) -> Vec<Command> {
    changes::full(Table::inet(table), &ruleset(wanted))
}

/// The transaction from what `table` was `seen` to hold to `wanted`; empty if nothing differs.
pub fn host_changes(table: &str, seen: &ObservedFirewall, wanted: &HostNat) -> Vec<Command> {
    changes::from(Table::inet(table), seen.image(), &ruleset(wanted))
}

/// Adds `link` to those that are kept apart and leaves the rest of `table`, which was `seen` to
/// hold something, as it is: for a link that is about to be made, before anything can cross it.
/// Empty if it is there already; a table that does not keep links apart, or the host closed to
/// them, is replaced.
pub fn keep_apart(table: &str, seen: Option<&ObservedFirewall>, link: &LinkName) -> Vec<Command> {
    let alone = HostNat { links: [link.clone()].into(), ..HostNat::default() };
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
    let same_kind = set.types == [LINK_TYPE] && set.map.is_none();
    let same_apart = image.chains.get(APART) == ours.chains.get(APART);
    // What is open to guests differs from host to host; that the rest is closed does not.
    let end = |image: &changes::Image| {
        let (hook, rules) = image.chains.get(CLOSED)?;
        Some((hook.clone(), rules.last().cloned()))
    };
    (same_kind && same_apart && end(image) == end(&ours)).then_some(set)
}

const LINK_TYPE: &str = "ifname";

pub(crate) fn ruleset(wanted: &HostNat) -> Ruleset {
    let hook = |kind: &str, hook: &str, priority| Hook {
        kind: kind.into(),
        hook: hook.into(),
        priority,
        policy: "accept".into(),
    };
    let chain = |hook, rules| ChainBody { hook: Some(hook), rules };
    let chains = [
        (APART, chain(hook("filter", "forward", 0), apart())),
        (CLOSED, chain(hook("filter", "input", 0), closed(&wanted.guest_access))),
        ("base_nat", chain(hook("nat", "postrouting", 100), hide(wanted))),
        ("base_nat_in", chain(hook("nat", "prerouting", -100), forwards(wanted))),
        ("base_nat_own", chain(hook("nat", "output", -100), forwards(wanted))),
    ];
    let mut links = set_of(&[LINK_TYPE]);
    links.elements = wanted.links.iter().map(|link| (vec![link.to_string()], None)).collect();
    let addresses = |addresses: &BTreeSet<Ipv4Addr>| {
        let mut set = set_of(&["ipv4_addr"]);
        set.elements = addresses.iter().map(|one| (vec![one.to_string()], None)).collect();
        set
    };
    let sets =
        [(LINKS, links), (PUBLIC, addresses(&wanted.public)), (HIDDEN, addresses(&wanted.hidden))];
    Ruleset {
        chains: chains.map(|(name, body)| (name.to_owned(), body)).into(),
        sets: sets.map(|(name, body)| (name.to_owned(), body)).into(),
        ..Ruleset::default()
    }
}

fn within(what: Expression, set: &str) -> Statement {
    Statement::is(what, Expression::text(format!("@{set}")))
}

fn link(key: &'static str) -> Expression {
    Expression::Meta { key }
}

fn from_guests() -> Statement {
    within(link("iifname"), LINKS)
}

/// Between two of our links only answers pass, what goes to a public address, and what was for a
/// forwarded port.
fn apart() -> Vec<RuleBody> {
    let between = |rest: Vec<Statement>| {
        let mut all = vec![from_guests(), within(link("oifname"), LINKS)];
        all.extend(rest);
        all
    };
    let accept = || Statement::Accept(());
    let states = ["established", "related"].map(Expression::text);
    let known = Statement::is(Expression::Ct { key: "state" }, Expression::Set(states.into()));
    let translated = Statement::has(Expression::Ct { key: "status" }, "dnat");
    vec![
        RuleBody::new("answers", between(vec![known, accept()])),
        RuleBody::new("public", between(vec![within(payload("ip", "daddr"), PUBLIC), accept()])),
        RuleBody::new("forwarded", between(vec![translated, accept()])),
        RuleBody::new("apart", between(vec![Statement::Counter(()), Statement::Drop(())])),
    ]
}

/// The host answers guests echo requests and what it has opened itself, and serves what its
/// operator says.
fn closed(guest_access: &BTreeSet<GuestAccess>) -> Vec<RuleBody> {
    let from_guest = |label: &str, rest: Vec<Statement>| {
        let mut all = vec![from_guests()];
        all.extend(rest);
        RuleBody::new(label, all)
    };
    let accept = || Statement::Accept(());
    let echo = vec![
        Statement::is(payload("icmp", "type"), Expression::text("echo-request")),
        Statement::Limit { rate: ECHO_PER_SECOND, per: "second" },
        accept(),
    ];
    let known = known_connections();
    let echo_v6 = vec![
        sources_v6::icmp(&[sources_v6::ECHO_REQUEST]),
        Statement::Limit { rate: ECHO_PER_SECOND, per: "second" },
        accept(),
    ];
    // Without these no packet comes back by an uplink: connection tracking does not know them.
    let neighbours = [sources_v6::NEIGHBOUR_SOLICIT, sources_v6::NEIGHBOUR_ADVERT];
    let mut rules = vec![
        from_guest("known", known.statements),
        from_guest("echo", echo),
        from_guest("neighbours", vec![sources_v6::icmp(&neighbours), accept()]),
        from_guest("echo", echo_v6),
    ];
    rules.extend(guest_access.iter().map(|open| {
        let port = Statement::is(
            payload(open.protocol.as_str(), "dport"),
            Expression::Number(open.port.into()),
        );
        from_guest(&open.to_string(), vec![port, accept()])
    }));
    rules.push(from_guest("closed", vec![Statement::Counter(()), Statement::Drop(())]));
    rules
}

fn hide(wanted: &HostNat) -> Vec<RuleBody> {
    let public = vec![
        within(payload("ip", "saddr"), HIDDEN),
        from_guests(),
        Statement::is_not(link("oifname"), Expression::text(format!("@{LINKS}"))),
        Statement::Masquerade(()),
    ];
    let sources = wanted.sources.iter().copied().map(IpNetwork::V4);
    let sources = sources.chain(wanted.sources_v6.iter().copied().map(IpNetwork::V6));
    let sources = sources.map(|source| {
        let (header, bits) = if source.is_ipv4() { ("ip", 32) } else { ("ip6", 128) };
        let addr = source.network().to_string();
        let range = if source.prefix() == bits {
            Expression::text(addr)
        } else {
            Expression::Prefix { addr, len: source.prefix() }
        };
        // Also on the way into another VPC, whose own range may be the same.
        let masquerade = vec![
            Statement::is(payload(header, "saddr"), range),
            from_guests(),
            Statement::Masquerade(()),
        ];
        RuleBody::new(&source.to_string(), masquerade)
    });
    std::iter::once(RuleBody::new("public", public)).chain(sources).collect()
}

fn forwards(wanted: &HostNat) -> Vec<RuleBody> {
    let one = |forward: &HostForward| {
        let daddr = || payload("ip", "daddr");
        let mut all = vec![match forward.address {
            Some(address) => Statement::is(daddr(), Expression::text(address)),
            None => Statement::is(Expression::local("daddr"), Expression::text("local")),
        }];
        if forward.address.is_none() {
            let loopback = Expression::Prefix { addr: "127.0.0.0".to_owned(), len: 8 };
            all.push(Statement::is_not(daddr(), loopback));
        }
        let (protocol, port) = (forward.protocol.as_str(), forward.port);
        all.push(Statement::is(payload(protocol, "dport"), Expression::Number(port.into())));
        let addr = Expression::text(forward.to);
        all.push(Statement::Dnat { family: "ip", addr, port: None });
        RuleBody::new(&format!("forward {protocol}/{port}"), all)
    };
    wanted.forwards.iter().map(one).collect()
}
