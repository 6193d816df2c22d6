//! Who may send IPv6 at all: guests as themselves, and who is outside but not as one of the VPC.
//!
//! ```text
//! routing headers                     nobody: they lead past what judged the destination
//! router advertisements, redirects    nobody: we are the router
//! neighbour advertisements            of link-local addresses, which are of one link only, but not
//!                                     the router's; nobody asks for others, whose neighbours are permanent
//! neighbour solicitations             from itself, from nobody yet (DAD), and a few per second from
//!                                     link-local addresses that we cannot know (RFC 7217)
//! router solicitations, MLD, DHCPv6   end here; the agent's socket has seen them before
//! multicast groups                     nobody else: there is nothing to hear
//! everything else                     link, MAC and source address, as for IPv4; the source may
//!                                     also be the link-local address made of the MAC, and that of
//!                                     who forwards for others any outside of the VPC
//! ```
//! Fragments are put together before (connection tracking does it at priority -400), so ports and
//! types are always there to be judged; other extension headers pass.
//!
//! Neighbour entries are a kernel's for all namespaces together and made by every solicitation:
//! that is why made-up senders are few.

use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;
use weft_model::{Firewall, FirewallInterface, LinkName, MacAddr, ROUTER_V6};

use super::base::accept;
use super::forwarders;
use super::refused::{self as counted, MULTICAST};
use super::{BOUND_SET_V6, ChainBody, RuleBody, Ruleset, SENDER_SET, denied, payload, set_of};
use crate::json::{Expression, Statement};

/// The chain, called for every IPv6 packet that comes in by a link.
pub(super) const SOURCES_V6: &str = "sources_v6";

/// Solicitations per second that all guests together may send from addresses that we do not know:
/// in the 5 s before the kernel may drop an entry, far fewer than its tables hold (`gc_thresh3`).
const STRANGERS_PER_SECOND: u32 = 10;
/// ICMPv6 types (RFC 4443, RFC 4861, RFC 2710, RFC 3810).
pub(crate) const ECHO_REQUEST: u32 = 128;
pub(super) const ROUTER_SOLICIT: u32 = 133;
pub(super) const ROUTER_ADVERT: u32 = 134;
pub(crate) const NEIGHBOUR_SOLICIT: u32 = 135;
pub(crate) const NEIGHBOUR_ADVERT: u32 = 136;
pub(super) const REDIRECT: u32 = 137;
pub(super) const MLD_QUERY: u32 = 130;
pub(super) const MLD_REPORTS: [u32; 3] = [131, 132, 143];
/// Ports of DHCPv6 (RFC 8415, 7.2).
pub(super) const DHCP_CLIENT: u32 = 546;
pub(super) const DHCP_SERVER: u32 = 547;
/// The upper half of link-local addresses (RFC 4291, 2.5.6).
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
/// The target of a neighbour advertisement: behind 8 bytes of header (RFC 4861, 4.4).
const TARGET_BIT: u32 = 64;

impl Ruleset {
    pub(super) fn add_sources_v6(&mut self, firewall: &Firewall) {
        let Some(range) = firewall.ipv6 else { return };
        let types = ["ifname", "ether_addr", "ipv6_addr"];
        self.sets.insert(BOUND_SET_V6.to_owned(), set_of(&types));
        let uplink = firewall.uplink.as_ref().map(|uplink| &uplink.link);
        let rules = rules(range, uplink);
        self.chains.insert(SOURCES_V6.to_owned(), ChainBody { hook: None, rules });
    }

    /// The addresses that an interface may send from.
    pub(super) fn bind_v6(&mut self, link: &LinkName, interface: &FirewallInterface) {
        let Some(address) = interface.ipv6 else { return };
        for source in [address, link_local(interface.mac)] {
            let element = vec![link.to_string(), interface.mac.to_string(), source.to_string()];
            self.add_element(BOUND_SET_V6, element, None);
        }
    }
}

/// The link-local address that is made of a MAC (RFC 4291, appendix A).
pub(super) fn link_local(mac: MacAddr) -> Ipv6Addr {
    mac.address_in(LINK_LOCAL)
}

fn rules(range: Ipv6Network, uplink: Option<&LinkName>) -> Vec<RuleBody> {
    let mut rules = Vec::new();
    if let Some(uplink) = uplink {
        let outside = || Statement::meta("iifname", uplink);
        rules.push(refused("forged", vec![outside(), from(range)]));
        rules.push(accept("outside", vec![outside()]));
    }
    let sender = || within(vec![payload("ether", "saddr")], SENDER_SET);
    let target_is_link_local = Statement::is(
        Expression::Raw { base: "th", offset: TARGET_BIT, len: 10 },
        Expression::Number(0x3fa),
    );
    let target_is_not_link_local = match target_is_link_local.clone() {
        Statement::Match { left, right, .. } => Statement::is_not(left, right),
        other => other,
    };
    let target_is_router = Statement::is(
        Expression::Raw { base: "th", offset: TARGET_BIT, len: 128 },
        Expression::text(format!("{:#034x}", u128::from(ROUTER_V6))),
    );
    let known = within(vec![payload("ether", "saddr"), payload("ip6", "saddr")], BOUND_SET_V6);
    let solicit = || icmp(&[NEIGHBOUR_SOLICIT]);
    let advert = || icmp(&[NEIGHBOUR_ADVERT]);
    let nobody = Statement::is(payload("ip6", "saddr"), Expression::text(Ipv6Addr::UNSPECIFIED));
    let few = Statement::Limit { rate: STRANGERS_PER_SECOND, per: "second" };
    let dhcp = vec![
        Statement::is(payload("udp", "sport"), Expression::Number(DHCP_CLIENT)),
        Statement::is(payload("udp", "dport"), Expression::Number(DHCP_SERVER)),
        sender(),
    ];
    let groups = Expression::Prefix { addr: "ff00::".to_owned(), len: 8 };
    let to_group = Statement::is(payload("ip6", "daddr"), groups);
    let chatter: Vec<u32> = MLD_REPORTS.into_iter().chain([MLD_QUERY, ROUTER_SOLICIT]).collect();
    rules.extend([
        refused(
            "routing header",
            vec![Statement::is(Expression::Exthdr { name: "rt" }, Expression::Flag(true))],
        ),
        refused("router claims", vec![icmp(&[ROUTER_ADVERT, REDIRECT])]),
        refused("router address claims", vec![advert(), target_is_router]),
        refused("neighbour claims", vec![advert(), target_is_not_link_local]),
        accept("neighbours", vec![advert(), sender(), target_is_link_local]),
        refused("for the agent", vec![icmp(&chatter), sender()]),
        refused("for the agent", dhcp),
        accept("nobody yet", vec![solicit(), nobody, sender()]),
        accept("solicits", vec![solicit(), known.clone()]),
        accept("strangers", vec![solicit(), sender(), from_link_local(), few]),
        counted::refused(MULTICAST, vec![to_group]),
        accept("bound", vec![known]),
        forwarders::judged_apart_v6(Vec::new()),
        denied(),
    ]);
    rules
}

fn refused(label: &str, mut conditions: Vec<Statement>) -> RuleBody {
    conditions.extend([Statement::Counter(()), Statement::Drop(())]);
    RuleBody::new(label, conditions)
}

/// ICMPv6 of one of `types`.
pub(crate) fn icmp(types: &[u32]) -> Statement {
    let right = match types {
        [one] => Expression::Number(*one),
        several => Expression::Set(several.iter().map(|one| Expression::Number(*one)).collect()),
    };
    Statement::is(payload("icmpv6", "type"), right)
}

/// Of the link that the packet came in by, and more.
fn within(parts: Vec<Expression>, set: &str) -> Statement {
    let link = Expression::Meta { key: "iifname" };
    let key = Expression::Concat([link].into_iter().chain(parts).collect());
    Statement::is(key, Expression::text(format!("@{set}")))
}

/// fe80::/10.
fn from_link_local() -> Statement {
    let prefix = Expression::Prefix { addr: "fe80::".to_owned(), len: 10 };
    Statement::is(payload("ip6", "saddr"), prefix)
}

pub(super) fn from(range: Ipv6Network) -> Statement {
    let prefix = Expression::Prefix { addr: range.network().to_string(), len: range.prefix() };
    Statement::is(payload("ip6", "saddr"), prefix)
}
