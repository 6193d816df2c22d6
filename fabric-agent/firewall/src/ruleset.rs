//! A table's whole content as data: built from a [`Firewall`], compared, written out.
//!
//! Everything is named with a prefix of its own, because nft reserves words such as `dst`, `fwd`
//! or `tap`'s cousins; an id's 17 digits make the rest.

mod arp;
pub(crate) mod base;
mod forwarders;
mod fragments;
mod frames;
mod frames_v6;
mod group;
mod nat;
pub(crate) mod rates;
mod refused;
pub(crate) mod sources_v6;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sha2::{Digest, Sha256};
use weft_model::{
    AddressFamily, Direction, Firewall, FirewallGroup, FirewallInterface, FirewallPrefixList,
    GroupId, LinkName, PrefixListId, RuleId,
};

use crate::json::{Expression, Statement};

/// What a table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) sets: BTreeMap<String, SetBody>,
    pub(crate) chains: BTreeMap<String, ChainBody>,
    /// Counters with a name: they survive the rewriting of a chain.
    pub(crate) counters: BTreeSet<String>,
}

/// What a map leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapTo {
    /// A chain, which goes on with the packet.
    Chains,
    /// An address.
    Addresses,
}

impl MapTo {
    /// As nft calls it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Chains => "verdict",
            Self::Addresses => "ipv4_addr",
        }
    }
}

/// A set, or a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetBody {
    /// The types of an element's parts.
    pub(crate) types: Vec<String>,
    pub(crate) map: Option<MapTo>,
    /// Whether elements are ranges, each one part: the first and the last address.
    pub(crate) has_ranges: bool,
    /// An element's parts, and for a map what it leads to.
    pub(crate) elements: BTreeMap<Vec<String>, Option<String>>,
    /// Seconds after which the kernel forgets an element: then rules put them in, and none is ours.
    pub(crate) timeout: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChainBody {
    /// Where the kernel calls the chain; `None` is a chain that others call.
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<RuleBody>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) kind: String,
    pub(crate) hook: String,
    pub(crate) priority: i32,
    pub(crate) policy: String,
}

/// One rule. The comment ends in a hash of the statements, so equal comments are equal rules: the
/// kernel gives statements back in another form, comments as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuleBody {
    pub(crate) comment: String,
    pub(crate) statements: Vec<Statement>,
}

impl RuleBody {
    pub(crate) fn new(label: &str, statements: Vec<Statement>) -> Self {
        // `Debug` of plain data: what is hashed never leaves this program, and a change of its
        // form only costs one rewrite of the chains at the next start.
        let hash = Sha256::digest(format!("{statements:?}"));
        Self { comment: format!("{label} {}", hex::encode(&hash[..8])), statements }
    }
}

/// What two firewalls have alike and a change from one to the other need not look at: a rule is
/// changed as fast in a group of ten thousand as in one of ten.
#[derive(Debug, Default)]
pub(crate) struct Common<'a> {
    /// Groups with the same members.
    members: BTreeSet<&'a GroupId>,
    /// Of these, the groups with the same rules too, which lead to the same conditions.
    groups: BTreeSet<&'a GroupId>,
    /// Whether all that follows from the interfaces is the same.
    interfaces: bool,
}

impl<'a> Common<'a> {
    pub(crate) fn of(old: &'a Firewall, new: &'a Firewall) -> Self {
        let same_families = old.ipv6.is_some() == new.ipv6.is_some();
        let before = |id| old.groups.get(id).filter(|_| same_families);
        let members = new.groups.iter().filter(|(id, group)| {
            before(*id).is_some_and(|before| {
                (&before.members, &before.members_v6) == (&group.members, &group.members_v6)
            })
        });
        let members: BTreeSet<_> = members.map(|(id, _)| id).collect();
        // What a rule's condition is made of besides the rule itself.
        let same_peers =
            old.groups.keys().eq(new.groups.keys()) && old.prefix_lists == new.prefix_lists;
        let groups = new.groups.iter().filter(|(id, group)| {
            let same = |before: &FirewallGroup| {
                before.allow_all_egress == group.allow_all_egress && before.rules == group.rules
            };
            same_peers && members.contains(id) && before(*id).is_some_and(same)
        });
        Self {
            groups: groups.map(|(id, _)| id).collect(),
            members,
            interfaces: old.interfaces == new.interfaces
                && old.bridge.is_some() == new.bridge.is_some()
                && same_families
                && old.groups.keys().eq(new.groups.keys()),
        }
    }

    pub(crate) fn has_interfaces(&self) -> bool {
        self.interfaces
    }
}

/// The maps from a link's name, or on a bridge from its address, to its chain.
pub(crate) fn verdict_map(direction: Direction) -> String {
    format!("links_{}", suffix(direction))
}

/// The map from the IPv6 address of a guest on a bridge to its chain.
pub(crate) fn verdict_map_v6(direction: Direction) -> String {
    format!("links6_{}", suffix(direction))
}

/// The set of a group's members.
pub(crate) fn member_set(group: &GroupId) -> String {
    format!("members_{}", group.digits())
}

/// The set of its members' IPv6 addresses, where the VPC has IPv6.
pub(crate) fn member_set_v6(group: &GroupId) -> String {
    format!("members6_{}", group.digits())
}

/// The set of a prefix list's ranges.
pub(crate) fn prefix_set(list: &PrefixListId) -> String {
    format!("prefixes_{}", list.digits())
}

fn prefix_list(list: &FirewallPrefixList) -> SetBody {
    let of = match list.family {
        AddressFamily::Ipv4 => "ipv4_addr",
        AddressFamily::Ipv6 => "ipv6_addr",
    };
    let range = |(first, last): &(IpAddr, IpAddr)| (vec![range_part(*first, *last)], None);
    let elements = list.ranges.iter().map(range).collect();
    SetBody { has_ranges: true, elements, ..set_of(&[of]) }
}

/// A range as the one part of an element.
pub(crate) fn range_part(first: IpAddr, last: IpAddr) -> String {
    format!("{first}-{last}")
}

/// What counts the connections that a rule has let through.
pub(crate) fn rule_counter(rule: &RuleId) -> String {
    format!("hits_{}", rule.digits())
}

/// The same for `allow_all_egress` of a group.
pub(crate) fn all_egress_counter(group: &GroupId) -> String {
    format!("egress_{}", group.digits())
}

/// Packets that no group of an interface let through.
pub(crate) fn denied_counter(direction: Direction) -> String {
    format!("denied_{}", suffix(direction))
}

fn group_chain(group: &GroupId, direction: Direction) -> String {
    format!("group_{}_{}", group.digits(), suffix(direction))
}

/// Bytes that nft's grammar does not know in a name are written in hexadecimal.
fn link_chain(link: &LinkName, direction: Direction) -> String {
    format!("link_{}_{}", in_a_name(link), suffix(direction))
}

/// A link's name as a part of another one.
fn in_a_name(link: &LinkName) -> String {
    let mut name = String::new();
    for byte in link.as_str().bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => name.push(char::from(byte)),
            other => name.push_str(&format!("_{other:02x}")),
        }
    }
    name
}

fn suffix(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    }
}

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// Interfaces allowed to send: link, source MAC, source address.
pub(crate) const BOUND_SET: &str = "bound_sources";

/// Interfaces with IPv6: link, source MAC, source address, and again with the link's own address.
pub(crate) const BOUND_SET_V6: &str = "bound_sources_v6";

/// Interfaces that may ask for an address, which they do not have yet: link and source MAC.
pub(crate) const SENDER_SET: &str = "bound_senders";

impl Ruleset {
    /// What the table must hold for `firewall`.
    pub(crate) fn of(firewall: &Firewall) -> Self {
        Self::except(firewall, &Common::default())
    }

    /// The same without what is `common` with another firewall: no difference from that one's,
    /// taken likewise, is lost, and whole it is only with nothing in common.
    pub(crate) fn except(firewall: &Firewall, common: &Common<'_>) -> Self {
        let mut ruleset = Self::default();
        ruleset.add_base(firewall);
        ruleset.counters.extend(DIRECTIONS.map(denied_counter));
        for (id, list) in &firewall.prefix_lists {
            ruleset.sets.insert(prefix_set(id), prefix_list(list));
        }
        for (id, group) in &firewall.groups {
            ruleset.add_counters(id, group);
            if !common.groups.contains(id) {
                ruleset.add_group(id, group, !common.members.contains(id), firewall);
            }
        }
        if !common.interfaces {
            for (link, interface) in firewall.interfaces.iter() {
                ruleset.add_interface(link, interface, firewall);
            }
            if firewall.bridge.is_none() {
                ruleset.add_rates(firewall);
            }
        }
        ruleset
    }

    fn add_interface(&mut self, link: &LinkName, interface: &FirewallInterface, all: &Firewall) {
        if all.bridge.is_none() {
            let (mac, address) = (interface.mac.to_string(), interface.address.to_string());
            self.add_element(BOUND_SET, vec![link.to_string(), mac.clone(), address], None);
            self.add_element(SENDER_SET, vec![link.to_string(), mac], None);
            self.bind_v6(link, interface);
            self.add_forwarder(link, interface);
        }
        // On a bridge the kernel shows its name for every port; there the table of the bridge
        // family vouches for the addresses.
        let key = match all.bridge {
            None => link.to_string(),
            Some(_) => interface.address.to_string(),
        };
        let key_v6 = interface.ipv6.filter(|_| all.bridge.is_some() && all.ipv6.is_some());
        for direction in DIRECTIONS {
            let groups = interface.groups.iter().filter(|id| all.groups.contains_key(*id));
            let mut rules: Vec<_> = groups
                .map(|id| {
                    let target = group_chain(id, direction);
                    RuleBody::new(id.as_str(), vec![Statement::Jump { target }])
                })
                .collect();
            let count = Statement::CountIn(denied_counter(direction));
            rules.push(RuleBody::new("denied", vec![count, Statement::Drop(())]));
            let chain = link_chain(link, direction);
            self.chains.insert(chain.clone(), ChainBody { hook: None, rules });
            if let Some(address) = key_v6 {
                let map = verdict_map_v6(direction);
                self.add_element(&map, vec![address.to_string()], Some(chain.clone()));
            }
            self.add_element(&verdict_map(direction), vec![key.clone()], Some(chain));
        }
    }

    fn add_element(&mut self, set: &str, parts: Vec<String>, chain: Option<String>) {
        self.sets.entry(set.to_owned()).or_default().elements.insert(parts, chain);
    }
}

/// The empty set of interfaces allowed to send.
fn bound_sources() -> SetBody {
    set_of(&["ifname", "ether_addr", "ipv4_addr"])
}

pub(crate) fn set_of(types: &[&str]) -> SetBody {
    let types = types.iter().map(|part| (*part).to_owned()).collect();
    SetBody { types, ..SetBody::default() }
}

/// The end of every chain that does not come back.
fn denied() -> RuleBody {
    RuleBody::new("denied", vec![Statement::Counter(()), Statement::Drop(())])
}

pub(crate) fn payload(protocol: &'static str, field: &'static str) -> Expression {
    Expression::Payload { protocol, field }
}
