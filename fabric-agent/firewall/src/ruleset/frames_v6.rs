//! IPv6 in the frames of a bridge: who may send what, and who hears it.
//!
//! ```text
//! from a guest's port
//!   routing headers, router advertisements, redirects, queries for groups     nobody
//!   DHCPv6 requests                       to the agent, whatever MAC they were sent to
//!   DHCPv6 answers                        nobody
//!   neighbour advertisements              from its own address, of its own addresses
//!   neighbour solicitations               from its own address; from nobody (DAD) for its own
//!   router solicitations, MLD reports     from its own address, or from nobody
//!   everything else                       MAC and source address, as for IPv4; the source may also be
//!                                         the link-local address made of the MAC
//! from the operator's network
//!   sources that are guests', claims to their addresses, redirects, DHCPv6    nobody
//!   the LAN's router advertisements, and what else keeps a link together      to guests with IPv6
//! ```
//! What keeps a link together (neighbour discovery and MLD) is known to no security group: frames that
//! were judged here carry marks of their own, and behind br_netfilter, where fragments have been put
//! together, the same messages without such a mark are dropped.
//!
//! nft 1.0.6 knows no name for the target of a neighbour message, and compares no bits without a name
//! with sets of addresses. So the target is looked up word by word, each in its turn as the frame's
//! mark, which is set anew when the frame is let in. That takes the bytes as they are in the frame, where a
//! mark is a number of the machine: the sets have each word both ways round, whatever nft makes of it.

use std::net::Ipv6Addr;

use weft_model::{FirewallBridge, FirewallInterface, LinkName};

use super::base::{accept, offers_addresses};
use super::frames::{FROM_OUTSIDE, ether_type, iif, mark, one_of, refused, to_us, within};
use super::sources_v6::{
    DHCP_CLIENT, DHCP_SERVER, MLD_QUERY, MLD_REPORTS, NEIGHBOUR_ADVERT, NEIGHBOUR_SOLICIT,
    REDIRECT, ROUTER_ADVERT, ROUTER_SOLICIT, icmp, link_local,
};
use super::{BOUND_SET_V6, RuleBody, Ruleset, payload, set_of};
use crate::json::{Expression, Statement};

/// The mark of a guest's message that keeps its link together.
pub(super) const GUEST_NEIGHBOUR: u32 = 3;
/// The same from the operator's network.
pub(super) const OUTSIDE_NEIGHBOUR: u32 = 4;

/// Guests' ports with the address behind each.
const TARGETS: &str = "bound_targets_v6";
/// Guests' ports with what else they hear of their link: multicast groups, by which neighbours are asked
/// and routers heard, and their link-local address, which no security group knows.
const HEARD: &str = "bound_groups_v6";
/// The addresses of all guests here: nobody outside has them.
const OWN_ADDRESSES: &str = "own_addresses_v6";
/// The words of a guest's addresses, with its port, and those of all guests'.
const CLAIMS: [&str; 4] = ["claims_0", "claims_1", "claims_2", "claims_3"];
const OWN_WORDS: [&str; 4] = ["own_words_0", "own_words_1", "own_words_2", "own_words_3"];
/// The target of a neighbour message: behind 8 bytes of header (RFC 4861, 4.3 and 4.4), in bits.
const TARGET_BIT: u32 = 64;
/// All hosts of a link (RFC 4291, 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl Ruleset {
    /// The sets, with who is behind each port.
    pub(super) fn add_frame_sets_v6<'a>(
        &mut self,
        interfaces: impl Iterator<Item = (&'a LinkName, &'a FirewallInterface)>,
    ) {
        let claims = CLAIMS.map(|name| (name, set_of(&["ifname", "mark"])));
        let words = OWN_WORDS.map(|name| (name, set_of(&["mark"])));
        let sets = [
            (BOUND_SET_V6, set_of(&["ifname", "ether_addr", "ipv6_addr"])),
            (TARGETS, set_of(&["ifname", "ipv6_addr"])),
            (HEARD, set_of(&["ifname", "ipv6_addr"])),
            (OWN_ADDRESSES, set_of(&["ipv6_addr"])),
        ];
        let all = sets.into_iter().chain(claims).chain(words);
        self.sets.extend(all.map(|(name, set)| (name.to_owned(), set)));
        for (link, interface) in interfaces {
            self.bind_v6(link, interface);
            let Some(address) = interface.ipv6 else { continue };
            let link = link.to_string();
            self.add_element(TARGETS, vec![link.clone(), address.to_string()], None);
            for group in [ALL_NODES, link_local(interface.mac)] {
                self.add_element(HEARD, vec![link.clone(), group.to_string()], None);
            }
            for own in [address, link_local(interface.mac)] {
                self.add_element(HEARD, vec![link.clone(), solicited(own).to_string()], None);
                self.add_element(OWN_ADDRESSES, vec![own.to_string()], None);
                for ((claims, words), word) in CLAIMS.into_iter().zip(OWN_WORDS).zip(words_of(own))
                {
                    for word in [word, word.swap_bytes()].map(|word| word.to_string()) {
                        self.add_element(claims, vec![link.clone(), word.clone()], None);
                        self.add_element(words, vec![word], None);
                    }
                }
            }
        }
    }
}

/// The group by which a neighbour is asked for its MAC (RFC 4291, 2.7.1).
fn solicited(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets().map(u16::from);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a, b << 8 | c)
}

fn words_of(address: Ipv6Addr) -> [u32; 4] {
    let bits = address.to_bits();
    [96, 64, 32, 0].map(|shift| u32::try_from(bits >> shift & u128::from(u32::MAX)).unwrap_or(0))
}

/// The target of the message is in the sets, each word in its own.
fn target(sets: [&str; 4], key: impl Fn(Expression) -> Vec<Expression>) -> Vec<Statement> {
    let mark = || Expression::Meta { key: "mark" };
    let word = |(n, set): (u32, &str)| {
        let value = Expression::Raw { base: "th", offset: TARGET_BIT + n * 32, len: 32 };
        [Statement::Mangle { key: mark(), value }, within(key(mark()), set)]
    };
    (0..).zip(sets).flat_map(word).collect()
}

fn message(types: &[u32], rest: Vec<Statement>) -> Vec<Statement> {
    let mut all = vec![ether_type("ip6"), icmp(types)];
    all.extend(rest);
    all
}

fn dhcp(from: u32, to: u32) -> [Statement; 2] {
    let port = |field, number| Statement::is(payload("udp", field), Expression::Number(number));
    [port("sport", from), port("dport", to)]
}

/// Types of ICMPv6 that only one of a link's own has a use for.
pub(super) fn of_the_link() -> Statement {
    let mut types = vec![
        MLD_QUERY,
        ROUTER_SOLICIT,
        ROUTER_ADVERT,
        NEIGHBOUR_SOLICIT,
        NEIGHBOUR_ADVERT,
        REDIRECT,
    ];
    types.extend(MLD_REPORTS);
    icmp(&types)
}

/// What comes in at guests' ports; `sender` is the condition that the MAC is the port's guest's.
pub(super) fn from_guests(
    sender: impl Fn() -> Statement,
    bridge: &FirewallBridge,
) -> Vec<RuleBody> {
    let source =
        || within(vec![iif(), payload("ether", "saddr"), payload("ip6", "saddr")], BOUND_SET_V6);
    let nobody = || Statement::is(payload("ip6", "saddr"), Expression::text(Ipv6Addr::UNSPECIFIED));
    let own_target = || target(CLAIMS, |word| vec![iif(), word]);
    let routed = Statement::is(Expression::Exthdr { name: "rt" }, Expression::Flag(true));
    let mut ask = vec![ether_type("ip6"), sender()];
    ask.extend(dhcp(DHCP_CLIENT, DHCP_SERVER));
    let mut offer = vec![ether_type("ip6")];
    offer.extend(dhcp(DHCP_SERVER, DHCP_CLIENT));
    let reports: Vec<u32> = MLD_REPORTS.into_iter().chain([ROUTER_SOLICIT]).collect();
    let neighbour = |label: &str, conditions| mark(label, conditions, GUEST_NEIGHBOUR);
    let advert = [vec![source()], own_target()].concat();
    let detect = [vec![sender(), nobody()], own_target()].concat();
    vec![
        refused("routing-header", vec![ether_type("ip6"), routed]),
        refused("router-claims", message(&[ROUTER_ADVERT, REDIRECT, MLD_QUERY], Vec::new())),
        to_us("dhcp6", ask, bridge),
        refused("dhcp6-server", offer),
        neighbour("advertises", message(&[NEIGHBOUR_ADVERT], advert)),
        neighbour("solicits", message(&[NEIGHBOUR_SOLICIT], vec![source()])),
        neighbour("detects", message(&[NEIGHBOUR_SOLICIT], detect)),
        neighbour("listens", message(&reports, vec![source()])),
        neighbour("listens", message(&reports, vec![sender(), nobody()])),
        refused("neighbour-claims", vec![ether_type("ip6"), of_the_link()]),
        mark("bound6", vec![ether_type("ip6"), source()], super::frames::FROM_GUEST),
    ]
}

/// What comes in from the operator's network.
pub(super) fn from_outside() -> Vec<RuleBody> {
    let own = within(vec![payload("ip6", "saddr")], OWN_ADDRESSES);
    let claim = target(OWN_WORDS, |word| vec![word]);
    let dhcp = one_of(payload("udp", "dport"), &[DHCP_SERVER, DHCP_CLIENT]);
    vec![
        refused("forged6", vec![ether_type("ip6"), own]),
        refused("forged-neighbour", message(&[NEIGHBOUR_ADVERT], claim)),
        refused("redirect", message(&[REDIRECT], Vec::new())),
        refused("dhcp6", vec![ether_type("ip6"), dhcp]),
        mark("neighbours", vec![ether_type("ip6"), of_the_link()], OUTSIDE_NEIGHBOUR),
        mark("ip6", vec![ether_type("ip6")], FROM_OUTSIDE),
    ]
}

/// What is left to judge where fragments have been put together: what was judged as a frame passes
/// beside the groups, and nothing of the kind passes that was not seen as such.
pub(super) fn behind_the_bridge() -> Vec<RuleBody> {
    let judged = one_of(Expression::Meta { key: "mark" }, &[GUEST_NEIGHBOUR, OUTSIDE_NEIGHBOUR]);
    let routed = Statement::is(Expression::Exthdr { name: "rt" }, Expression::Flag(true));
    vec![
        accept("neighbours", vec![of_the_link(), judged]),
        refused("neighbours unseen", vec![of_the_link()]),
        refused("routing header", vec![routed]),
        offers_addresses(DHCP_SERVER, DHCP_CLIENT),
    ]
}

/// What goes on to another port.
pub(super) fn forward(outside: Option<&LinkName>) -> Vec<RuleBody> {
    let to = |set| {
        let key = vec![Expression::Meta { key: "oifname" }, payload("ip6", "daddr")];
        vec![ether_type("ip6"), within(key, set)]
    };
    // Only what keeps the link together, which of guests' is never a router's.
    let mut heard = to(HEARD);
    heard.push(one_of(Expression::Meta { key: "mark" }, &[GUEST_NEIGHBOUR, OUTSIDE_NEIGHBOUR]));
    let mut rules = vec![accept("target6", to(TARGETS)), accept("heard6", heard)];
    rules.extend(outside.map(|outside| {
        accept("outward6", vec![Statement::meta("oifname", outside), ether_type("ip6")])
    }));
    rules
}

/// What the agent says: only to its guests.
pub(super) fn output(outside: &LinkName) -> RuleBody {
    refused("ip6", vec![Statement::meta("oifname", outside), ether_type("ip6")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_by_its_last_three_bytes_and_claimed_by_its_four_words() {
        let address: Ipv6Addr = "fd00:1:2:3:1234:56ff:fe78:9abc".parse().unwrap();
        assert_eq!(solicited(address), "ff02::1:ff78:9abc".parse::<Ipv6Addr>().unwrap());
        assert_eq!(words_of(address), [0xfd00_0001, 0x0002_0003, 0x1234_56ff, 0xfe78_9abc]);
    }
}
