//! How much guests may send: in all where they have a limit, and to the services of their VPC.
//!
//! What goes to a guest waits its turn at its tap; what comes from it is here already, and what is
//! too much of it is dropped: a sender of TCP slows down by that. It is dropped before anything else
//! is thought about it, and before fragments are put together. Taps without a limit are not looked
//! at: without a limited one in the VPC the chain does not exist.
//!
//! The services are one for all guests of a VPC, with one buffer for each: so nobody gets more
//! packets to them than [`ASKS_PER_SECOND`]. Each link has a bucket of its own, which the kernel
//! makes when it is first needed.

use std::net::Ipv4Addr;

use weft_model::{
    Firewall, FirewallBridge, FirewallInterface, FirewallUplink, LinkName, SERVICE_ADDRESSES,
};

use super::base::hook;
use super::frames::{ether_type, one_of};
use super::refused::ASKED_TOO_OFTEN;
use super::sources_v6::DHCP_SERVER as DHCP_SERVER_V6;
use super::{ChainBody, MapTo, RuleBody, Ruleset, SetBody, in_a_name, payload, set_of};
use crate::json::{Expression, Over, Statement};

/// Before everything else, see [`super::fragments`].
const FIRST: i32 = -460;
/// What an interface may send to the services of its VPC, as in EC2.
const ASKS_PER_SECOND: u64 = 1024;
/// As many at once after a second's silence.
const ASKS_AT_ONCE: u32 = 1024;
/// Links that the kernel remembers: more than a namespace has.
pub(crate) const ASKERS: u32 = 1 << 16;
/// Seconds until it forgets one, whose bucket is long full again.
const FORGOTTEN_AFTER: u32 = 10;
/// What nft's limit of bytes lets through at once besides a second's worth, which it always does
/// (Linux `nft_limit.c`): the largest packet that a guest's segmentation offload hands over, which
/// would never pass a smaller bucket.
const BURST_BYTES: u32 = 64 << 10;

/// From a link to what limits it.
const LIMITED: &str = "limited";
/// Each link's bucket for packets to the services.
const ASKING: &str = "asking";

impl Ruleset {
    /// What the rules of this file refer to.
    pub(super) fn add_rate_sets(&mut self) {
        let limited = SetBody { map: Some(MapTo::Chains), ..set_of(&["ifname"]) };
        self.sets.insert(LIMITED.to_owned(), limited);
        let asking = SetBody { timeout: Some(FORGOTTEN_AFTER), ..set_of(&["ifname"]) };
        self.sets.insert(ASKING.to_owned(), asking);
        self.counters.insert(ASKED_TOO_OFTEN.to_owned());
    }

    /// The limits of routed taps, if there is any.
    pub(super) fn add_rates(&mut self, firewall: &Firewall) {
        if self.add_limits(firewall) {
            self.add_first("base_rates", vec![by_link()]);
        }
    }

    /// The same for the ports of a bridge, and what guests ask: where packets are judged later, all
    /// come in by the bridge.
    pub(super) fn add_frame_rates(&mut self, firewall: &Firewall, bridge: &FirewallBridge) {
        let services = bridge.addresses.iter().copied().chain(SERVICE_ADDRESSES);
        let asked: Vec<_> = services.chain([Ipv4Addr::BROADCAST]).collect();
        let mut asks = vec![ether_type("ip"), one_of(payload("ip", "daddr"), &asked)];
        asks.extend(too_often());
        let mut rules = vec![RuleBody::new("asks too often", asks)];
        if firewall.ipv6.is_some() {
            let mut asks = vec![ether_type("ip6")];
            asks.push(Statement::is(payload("udp", "dport"), Expression::Number(DHCP_SERVER_V6)));
            asks.extend(too_often());
            rules.push(RuleBody::new("asks too often", asks));
        }
        if self.add_limits(firewall) {
            rules.push(by_link());
        }
        self.add_first("frames_rates", rules);
    }

    /// What is not too much goes on.
    fn add_first(&mut self, name: &str, rules: Vec<RuleBody>) {
        let mut first = hook("filter", "prerouting", FIRST);
        first.policy = "accept".to_owned();
        self.add_hooked(name, first, rules);
    }

    /// The chains of limited links; whether there is any.
    fn add_limits(&mut self, firewall: &Firewall) -> bool {
        let limit = |(link, interface): (&LinkName, &FirewallInterface)| {
            interface.network_mbps.map(|mbps| (link.clone(), mbps))
        };
        let limited: Vec<_> = firewall.interfaces.iter().filter_map(limit).collect();
        for (link, mbps) in &limited {
            let chain = format!("rate_{}", in_a_name(link));
            let rules = vec![too_much(*mbps)];
            self.chains.insert(chain.clone(), ChainBody { hook: None, rules });
            self.add_element(LIMITED, vec![link.to_string()], Some(chain));
        }
        !limited.is_empty()
    }
}

/// The rule of what comes to the router itself. Answers to what it asked outside are not a guest's.
pub(super) fn asks_too_often(uplink: Option<&FirewallUplink>) -> RuleBody {
    let others = uplink.map(|uplink| uplink.link.to_string()).into_iter().chain(["lo".to_owned()]);
    let others = Expression::Set(others.map(Expression::text).collect());
    let mut statements = vec![Statement::is_not(Expression::Meta { key: "iifname" }, others)];
    statements.extend(too_often());
    RuleBody::new("asks too often", statements)
}

fn by_link() -> RuleBody {
    let data = Expression::text(format!("@{LIMITED}"));
    RuleBody::new(
        "limited",
        vec![Statement::Vmap { key: Expression::Meta { key: "iifname" }, data }],
    )
}

fn too_often() -> [Statement; 3] {
    let over = Over {
        rate: ASKS_PER_SECOND,
        rate_unit: None,
        per: "second",
        burst: ASKS_AT_ONCE,
        burst_unit: None,
        inv: true,
    };
    let each = Statement::EachOver {
        op: "update",
        elem: Expression::Meta { key: "iifname" },
        set: format!("@{ASKING}"),
        stmt: [Box::new(Statement::Over(over))],
    };
    [each, Statement::CountIn(ASKED_TOO_OFTEN.to_owned()), Statement::Drop(())]
}

fn too_much(mbps: u32) -> RuleBody {
    let over = Over {
        rate: u64::from(mbps) * 125_000,
        rate_unit: Some("bytes"),
        per: "second",
        burst: BURST_BYTES,
        burst_unit: Some("bytes"),
        inv: true,
    };
    let statements = vec![Statement::Over(over), Statement::Counter(()), Statement::Drop(())];
    RuleBody::new("too much", statements)
}
