//! Interfaces without the check of sources: guests that route or translate for others.
//!
//! They send from anywhere but from within the VPC, where each address is of one interface and
//! groups know their members by it, nor as what exists on one link or machine only. So nobody who is
//! judged by an address of the VPC can be them. What comes from outside and only passes through the
//! VPC does not leave it by the uplink: the host's networks see the VPC's own addresses alone.

use std::net::Ipv4Addr;

use ipnetwork::Ipv6Network;
use weft_model::{Firewall, FirewallInterface, FirewallUplink, LinkName, SERVICE_ADDRESSES_V6};

use super::base::accept;
use super::refused::{SPOOFED_SOURCE, refused};
use super::{ChainBody, RuleBody, Ruleset, payload, set_of};
use crate::json::{Expression, Statement};

/// Interfaces that may forward: link and source MAC.
const FORWARDERS: &str = "forwarders";
/// The same for IPv6, of those that have it.
const FORWARDERS_V6: &str = "forwarders_v6";
/// The chains that judge where they send from.
const CHAIN: &str = "base_forwarded";
const CHAIN_V6: &str = "base_forwarded_v6";

/// This network, this machine, this link with the services' addresses, and all from multicast groups
/// upwards (RFC 6890).
const NOWHERE: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];
/// The unspecified address, this machine and all that embeds IPv4, this link, multicast groups.
const NOWHERE_V6: [(&str, u8); 3] = [("::", 8), ("fe80::", 10), ("ff00::", 8)];

impl Ruleset {
    pub(super) fn add_forwarders(&mut self, firewall: &Firewall) {
        self.sets.insert(FORWARDERS.to_owned(), set_of(&["ifname", "ether_addr"]));
        let range = firewall.range.map(|range| (range.network(), range.prefix()));
        let ranges = range.into_iter().chain(NOWHERE);
        self.add_judge(CHAIN, ranges.map(|(addr, len)| from("ip", addr, len)));
        let Some(range) = firewall.ipv6 else { return };
        self.sets.insert(FORWARDERS_V6.to_owned(), set_of(&["ifname", "ether_addr"]));
        let own = (range.network().to_string(), range.prefix());
        let services = SERVICE_ADDRESSES_V6.map(|address| (address.to_string(), 128));
        let nowhere = NOWHERE_V6.map(|(addr, len)| (addr.to_owned(), len));
        let ranges = [own].into_iter().chain(services).chain(nowhere);
        self.add_judge(CHAIN_V6, ranges.map(|(addr, len)| from("ip6", addr, len)));
    }

    fn add_judge(&mut self, chain: &str, forbidden: impl Iterator<Item = Statement>) {
        let mut rules: Vec<_> =
            forbidden.map(|source| refused(SPOOFED_SOURCE, vec![source])).collect();
        rules.push(accept("forwarded", Vec::new()));
        self.chains.insert(chain.to_owned(), ChainBody { hook: None, rules });
    }

    /// One element of a set for an interface that forwards.
    pub(super) fn add_forwarder(&mut self, link: &LinkName, interface: &FirewallInterface) {
        if interface.source_dest_check {
            return;
        }
        let element = vec![link.to_string(), interface.mac.to_string()];
        if interface.ipv6.is_some() {
            self.add_element(FORWARDERS_V6, element.clone(), None);
        }
        self.add_element(FORWARDERS, element, None);
    }
}

/// Leads IPv4 from forwarders on that fulfils the conditions to its judge, who has the last word.
pub(super) fn judged_apart(conditions: Vec<Statement>) -> RuleBody {
    judged("ipv4", FORWARDERS, CHAIN, conditions)
}

/// The same for IPv6.
pub(super) fn judged_apart_v6(conditions: Vec<Statement>) -> RuleBody {
    judged("ipv6", FORWARDERS_V6, CHAIN_V6, conditions)
}

fn judged(family: &str, set: &str, chain: &str, conditions: Vec<Statement>) -> RuleBody {
    let link = Expression::Meta { key: "iifname" };
    let sender = Expression::Concat(vec![link, payload("ether", "saddr")]);
    let mut statements = vec![
        Statement::meta("nfproto", family),
        Statement::is(sender, Expression::text(format!("@{set}"))),
    ];
    statements.extend(conditions);
    statements.push(Statement::Goto { target: chain.to_owned() });
    RuleBody::new("forwarders", statements)
}

/// What leaves by the uplink has a source of the VPC's.
pub(super) fn only_ours_leave(
    uplink: &FirewallUplink,
    range: Option<Ipv6Network>,
) -> impl Iterator<Item = RuleBody> {
    let own = ("ip", prefix(uplink.vpc_cidr.network(), uplink.vpc_cidr.prefix()));
    let own_v6 = range.map(|range| ("ip6", prefix(range.network(), range.prefix())));
    let link = uplink.link.clone();
    [own].into_iter().chain(own_v6).map(move |(header, range)| {
        let foreign = Statement::is_not(payload(header, "saddr"), range);
        refused(SPOOFED_SOURCE, vec![Statement::meta("oifname", &link), foreign])
    })
}

fn from(header: &'static str, addr: impl ToString, len: u8) -> Statement {
    Statement::is(payload(header, "saddr"), prefix(addr, len))
}

fn prefix(addr: impl ToString, len: u8) -> Expression {
    Expression::Prefix { addr: addr.to_string(), len }
}
