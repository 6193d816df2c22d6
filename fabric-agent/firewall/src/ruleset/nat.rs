//! Address translation in a VPC's namespace: guests' public addresses, forwarded ports, and the one
//! address that all others hide behind.
//!
//! ```text
//! prerouting   to a public address, from outside or from a guest beside it: to the guest
//!              to a forwarded port of the uplink: to the guest
//! postrouting  out through the uplink: as the public address, else as the uplink's
//!              from a guest to its own public address: as that
//! ```
//! Both directions are judged by the groups after the destination and before the source is
//! translated, so they see the guests' own addresses inside the VPC, and the far end's outside.
//! Only a connection's first packet comes here: what is open goes on, whatever changes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use weft_model::{Firewall, FirewallForward, FirewallUplink};

use super::base::{from_vpc, hook};
use super::{MapTo, RuleBody, Ruleset, SetBody, payload, set_of, sources_v6};
use crate::json::{Expression, Statement};

/// `NF_IP_PRI_NAT_DST` of Linux `netfilter_ipv4.h`.
const DESTINATION_NAT: i32 = -100;
/// `NF_IP_PRI_NAT_SRC`.
const SOURCE_NAT: i32 = 100;
/// The guests' own addresses by their public ones, and back.
pub(crate) const PUBLIC_IN: &str = "public_in";
pub(crate) const PUBLIC_OUT: &str = "public_out";
/// Each of the guests that have a public address, twice: who talks to itself.
const PUBLIC_SELF: &str = "public_self";

impl Ruleset {
    /// A VPC without a way out has no public addresses, and no bridge has: its guests are machines of
    /// the LAN.
    pub(super) fn add_nat(&mut self, uplink: &FirewallUplink, firewall: &Firewall) {
        let public = &firewall.nat.public;
        let addresses = |pairs: BTreeMap<_, _>| SetBody {
            types: vec!["ipv4_addr".to_owned()],
            map: Some(MapTo::Addresses),
            elements: pairs,
            ..SetBody::default()
        };
        let pair = |from: &Ipv4Addr, to: &Ipv4Addr| (vec![from.to_string()], Some(to.to_string()));
        let into = public.iter().map(|(public, own)| pair(public, own)).collect();
        let out = public.iter().map(|(public, own)| pair(own, public)).collect();
        self.sets.insert(PUBLIC_IN.to_owned(), addresses(into));
        self.sets.insert(PUBLIC_OUT.to_owned(), addresses(out));
        let mut own = set_of(&["ipv4_addr", "ipv4_addr"]);
        own.elements = public.values().map(|own| (vec![own.to_string(); 2], None)).collect();
        self.sets.insert(PUBLIC_SELF.to_owned(), own);

        let mut before = hook("nat", "prerouting", DESTINATION_NAT);
        before.policy = "accept".to_owned();
        let to_guest =
            Statement::Dnat { family: "ip", addr: looked_up("daddr", PUBLIC_IN), port: None };
        let mut rules = vec![RuleBody::new("public", vec![to_guest])];
        rules.extend(firewall.nat.forwards.iter().map(|forward| forwarded(forward, uplink)));
        self.add_hooked("base_nat_in", before, rules);

        let mut after = hook("nat", "postrouting", SOURCE_NAT);
        after.policy = "accept".to_owned();
        let outward = || Statement::meta("oifname", &uplink.link);
        let as_public = || Statement::Snat { family: "ip", addr: looked_up("saddr", PUBLIC_OUT) };
        let both = Expression::Concat(vec![payload("ip", "saddr"), payload("ip", "daddr")]);
        let to_itself = Statement::is(both, Expression::text(format!("@{PUBLIC_SELF}")));
        let mut rules = vec![
            RuleBody::new("public", vec![outward(), as_public()]),
            RuleBody::new("public, to itself", vec![to_itself, as_public()]),
        ];
        if uplink.masquerade {
            let sources = firewall.ipv6.map(sources_v6::from).into_iter();
            rules.extend(sources.chain([from_vpc(uplink)]).map(|source| {
                RuleBody::new("masquerade", vec![outward(), source, Statement::Masquerade(())])
            }));
        }
        self.add_hooked("base_nat", after, rules);
    }
}

/// What a map has for an address of the packet; where it has nothing, the rule ends.
fn looked_up(field: &'static str, map: &str) -> Expression {
    let (key, data) = (payload("ip", field), Expression::text(format!("@{map}")));
    Expression::Map { key: Box::new(key), data: Box::new(data) }
}

/// Only the host sends to the uplink's own address.
fn forwarded(forward: &FirewallForward, uplink: &FirewallUplink) -> RuleBody {
    let protocol = forward.protocol.as_str();
    let conditions = vec![
        Statement::meta("iifname", &uplink.link),
        Statement::is(Expression::local("daddr"), Expression::text("local")),
        Statement::is(payload(protocol, "dport"), Expression::Number(forward.port.into())),
        Statement::Dnat {
            family: "ip",
            addr: Expression::text(forward.address),
            port: Some(forward.target_port),
        },
    ];
    RuleBody::new(&format!("forward {protocol}/{}", forward.port), conditions)
}
