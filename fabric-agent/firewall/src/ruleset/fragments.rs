//! Fragments are judged by their source one by one, before connection tracking puts them together.
//!
//! The whole has the head's MAC and the link of the piece that came last: a guest that knows the
//! number of a neighbour's fragmented datagram could slip in a piece of its own, and the neighbour's
//! last piece would vouch for it. Ports and types are judged afterwards, on the whole.

use weft_model::{Firewall, FirewallUplink};

use super::base::{accept, hook};
use super::forwarders;
use super::refused::{SPOOFED_SOURCE, refused};
use super::{BOUND_SET, BOUND_SET_V6, RuleBody, Ruleset, payload};
use crate::json::{Expression, Statement};

/// `NF_IP_PRI_RAW_BEFORE_DEFRAG` of Linux `netfilter_ipv4.h`.
const BEFORE_DEFRAG: i32 = -450;
/// "More fragments" and the offset, behind the two other flags (RFC 791, 3.1).
const FRAGMENT: Expression = Expression::Raw { base: "nh", offset: 50, len: 14 };

impl Ruleset {
    pub(super) fn add_fragments(&mut self, firewall: &Firewall) {
        let mut hook = hook("filter", "prerouting", BEFORE_DEFRAG);
        hook.policy = "accept".to_owned();
        let uplink = firewall.uplink.as_ref();
        let is_fragment = Statement::is_not(FRAGMENT, Expression::Number(0));
        let own = |header, bound| {
            Statement::is_not(source(header), Expression::text(format!("@{bound}")))
        };
        // Nearly all packets are whole: none of them is looked up in a set here.
        let whole = vec![
            Statement::meta("nfproto", "ipv4"),
            Statement::is(FRAGMENT, Expression::Number(0)),
        ];
        let mut rules = vec![
            accept("whole", whole),
            forwarders::judged_apart(vec![is_fragment.clone(), own("ip", BOUND_SET)]),
            forged("ipv4", is_fragment, "ip", BOUND_SET, uplink),
        ];
        if firewall.ipv6.is_some() {
            let header = Expression::Exthdr { name: "frag" };
            let is_fragment = Statement::is(header, Expression::Flag(true));
            rules.push(forwarders::judged_apart_v6(vec![
                is_fragment.clone(),
                own("ip6", BOUND_SET_V6),
            ]));
            rules.push(forged("ipv6", is_fragment, "ip6", BOUND_SET_V6, uplink));
        }
        self.add_hooked("base_fragments", hook, rules);
    }
}

fn source(header: &'static str) -> Expression {
    let link = Expression::Meta { key: "iifname" };
    Expression::Concat(vec![link, payload("ether", "saddr"), payload(header, "saddr")])
}

/// The uplink's side is judged with the whole, by its ranges.
fn forged(
    family: &str,
    is_fragment: Statement,
    header: &'static str,
    bound: &str,
    uplink: Option<&FirewallUplink>,
) -> RuleBody {
    let link = || Expression::Meta { key: "iifname" };
    let mut conditions = vec![
        Statement::meta("nfproto", family),
        is_fragment,
        Statement::is_not(link(), Expression::text("lo")),
    ];
    if let Some(uplink) = uplink {
        conditions.push(Statement::is_not(link(), Expression::text(&uplink.link)));
    }
    conditions.push(Statement::is_not(source(header), Expression::text(format!("@{bound}"))));
    refused(SPOOFED_SOURCE, conditions)
}
