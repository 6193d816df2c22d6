//! What guests say by ARP in a routed VPC, in a table of the arp family.
//!
//! The kernel believes none of it anyway: guests' neighbour entries are permanent, and strict
//! `rp_filter` takes no sender that does not belong to the link it comes from. This says so a second
//! time, and counts who tries: a guest asks, in its own name or (RFC 5227) in nobody's, and answers
//! nothing, for its router has no question.

use weft_model::Firewall;

use super::base::{accept, hook};
use super::frames::{arp, arp_operation};
use super::refused::{ARP_CLAIM, refused};
use super::{BOUND_SET, Ruleset, SENDER_SET, bound_sources, payload, set_of};
use crate::json::{Expression, Statement};

/// `NF_ARP_IN` has no chain of anybody else's before or after.
const FILTER: i32 = 0;

impl Ruleset {
    /// What the table of the arp family must hold.
    pub(super) fn of_arp(firewall: &Firewall) -> Self {
        let mut ruleset = Self::default();
        ruleset.sets.insert(BOUND_SET.to_owned(), bound_sources());
        ruleset.sets.insert(SENDER_SET.to_owned(), set_of(&["ifname", "ether_addr"]));
        for (link, interface) in firewall.interfaces.iter() {
            let (link, mac) = (link.to_string(), interface.mac.to_string());
            let address = interface.address.to_string();
            ruleset.add_element(BOUND_SET, vec![link.clone(), mac.clone(), address], None);
            ruleset.add_element(SENDER_SET, vec![link, mac], None);
        }
        let request = || {
            let mut conditions = arp();
            conditions.push(arp_operation(&["request"]));
            conditions
        };
        let within = |fields: &[&'static str], set: &str| {
            let link = Expression::Meta { key: "iifname" };
            let fields = fields.iter().map(|field| payload("arp", field));
            let key = Expression::Concat([link].into_iter().chain(fields).collect());
            Statement::is(key, Expression::text(format!("@{set}")))
        };
        let mut own = request();
        own.push(within(&["saddr ether", "saddr ip"], BOUND_SET));
        let mut probe = request();
        probe.push(within(&["saddr ether"], SENDER_SET));
        probe.push(Statement::is(payload("arp", "saddr ip"), Expression::text("0.0.0.0")));
        let mut rules = vec![accept("own", own), accept("probe", probe)];
        if let Some(uplink) = &firewall.uplink {
            rules.push(accept("outside", vec![Statement::meta("iifname", &uplink.link)]));
        }
        rules.push(refused(ARP_CLAIM, Vec::new()));
        ruleset.add_hooked("arp_in", hook("filter", "input", FILTER), rules);
        ruleset
    }
}
