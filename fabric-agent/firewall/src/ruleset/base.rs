//! The chains that the kernel calls, the same for every VPC.
//!
//! ```text
//! prerouting -460  guests with a limit: no more than that, see [`super::rates`]
//! prerouting -450  fragments, one by one, see [`super::fragments`]
//! prerouting raw   who may send at all: bound sources, who asks for its address by DHCP, the uplink
//!                  (not as one of the VPC), who forwards for others, see [`super::forwarders`];
//!                  no source routes, nothing to multicast
//! forward      0   may the sender open this connection?      links_out -> groups
//! forward     10   may the receiver be opened by it?         links_in  -> groups
//! input        0   the router itself answers echo requests, what it asked for, and guests that use
//!                  the VPC's services: DHCP, DNS, metadata, whatever their groups say
//! prerouting, postrouting  guests' addresses outside, see [`super::nat`]
//! ```
//! Every chain that judges who may send, be reached or use the router ends in a drop, counted by
//! reason, see [`super::refused`]. IPv6 takes
//! the same way, but who may send it is judged in a chain of its own, see [`super::sources_v6`]; where the VPC
//! has no IPv6 range, no rule accepts it.
//!
//! On a bridge, frames come here through br_netfilter with the bridge as their link. Who may send
//! was judged before, see [`super::frames`]: its marks say where a frame came in, and no frame
//! without a mark goes anywhere.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use weft_model::{
    DNS_ADDRESS, Direction, Firewall, FirewallBridge, FirewallUplink, METADATA_ADDRESS,
};

use super::forwarders;
use super::frames::{FROM_GUEST, FROM_OUTSIDE};
use super::frames_v6::{self, GUEST_NEIGHBOUR, OUTSIDE_NEIGHBOUR};
use super::rates::asks_too_often;
use super::refused::{
    self, FORGED_OUTSIDE, INVALID, MULTICAST, NOT_A_SERVICE, SOURCE_ROUTE, SPOOFED_MAC,
    SPOOFED_SOURCE, refused,
};
use super::sources_v6::{
    self, ECHO_REQUEST, NEIGHBOUR_ADVERT, NEIGHBOUR_SOLICIT, SOURCES_V6, icmp,
};
use super::{
    BOUND_SET, ChainBody, Hook, MapTo, RuleBody, Ruleset, SENDER_SET, SetBody, denied, payload,
    set_of, verdict_map,
};
use crate::json::{Expression, Statement};

/// `NF_IP_PRI_RAW` of Linux `netfilter_ipv4.h`: before connection tracking.
const RAW: i32 = -300;
/// `NF_IP_PRI_FILTER`.
const FILTER: i32 = 0;
/// After every egress decision: a packet must pass both.
const AFTER_FILTER: i32 = 10;
/// Ports of the services (RFC 2131, RFC 1035, RFC 9110).
pub(super) const DHCP_SERVER: u32 = 67;
pub(super) const DHCP_CLIENT: u32 = 68;
const DNS: u32 = 53;
const HTTP: u32 = 80;
/// The chain for packets with options of IPv4: there are few.
const OPTIONS: &str = "base_options";
/// Groups of hosts (RFC 5771).
const GROUPS: &str = "224.0.0.0";
/// Echo requests the router answers, all guests together.
const ECHO_PER_SECOND: u32 = 50;

impl Ruleset {
    pub(super) fn add_base(&mut self, firewall: &Firewall) {
        if let Some(bridge) = &firewall.bridge {
            return self.add_bridge_base(bridge, firewall);
        }
        let uplink = firewall.uplink.as_ref();
        self.sets.insert(BOUND_SET.to_owned(), super::bound_sources());
        self.sets.insert(SENDER_SET.to_owned(), set_of(&["ifname", "ether_addr"]));
        self.add_verdict_maps("ifname");
        self.add_forwarders(firewall);
        self.add_fragments(firewall);
        self.add_rate_sets();
        self.add_hooked("base_sources", hook("filter", "prerouting", RAW), sources(firewall));
        let options = ["lsrr", "ssrr"].map(|name| {
            let option = Statement::is(Expression::IpOption { name }, Expression::Flag(true));
            refused(SOURCE_ROUTE, vec![option])
        });
        self.chains.insert(OPTIONS.to_owned(), ChainBody { hook: None, rules: options.into() });
        self.counters.insert(SOURCE_ROUTE.to_owned());
        self.add_sources_v6(firewall);
        self.add_hooked(
            "base_out",
            hook("filter", "forward", FILTER),
            forward(Direction::Egress, "iifname", firewall),
        );
        self.add_hooked(
            "base_in",
            hook("filter", "forward", AFTER_FILTER),
            forward(Direction::Ingress, "oifname", firewall),
        );
        self.add_hooked("base_router", hook("filter", "input", FILTER), router(firewall));
        if let Some(uplink) = uplink {
            self.add_nat(uplink, firewall);
        }
    }

    /// The same chains for the frames of a bridge.
    fn add_bridge_base(&mut self, bridge: &FirewallBridge, firewall: &Firewall) {
        let has_ipv6 = firewall.ipv6.is_some();
        self.add_verdict_maps("ipv4_addr");
        if has_ipv6 {
            self.add_maps(super::verdict_map_v6, "ipv6_addr");
        }
        let on_bridge = |family: &str, mark: u32| {
            let from = Statement::meta("iifname", &bridge.link);
            vec![from, Statement::meta("nfproto", family), marked(mark)]
        };
        let mut sources = vec![
            accept("loopback", vec![Statement::meta("iifname", "lo")]),
            accept("guests", on_bridge("ipv4", FROM_GUEST)),
            accept("outside", on_bridge("ipv4", FROM_OUTSIDE)),
        ];
        if has_ipv6 {
            let marks = [FROM_GUEST, FROM_OUTSIDE, GUEST_NEIGHBOUR, OUTSIDE_NEIGHBOUR];
            sources.extend(marks.map(|mark| accept("IPv6", on_bridge("ipv6", mark))));
        }
        sources.push(denied());
        self.add_hooked("base_sources", hook("filter", "prerouting", RAW), sources);
        // A guest of ours by its address; what comes from outside has no groups to send by, and
        // what a guest sends elsewhere none to be received by.
        let by = |field, direction| {
            let link = |protocol, map| {
                let data = Expression::text(format!("@{map}"));
                RuleBody::new("link", vec![Statement::Vmap { key: payload(protocol, field), data }])
            };
            let v6 = has_ipv6.then(|| link("ip6", super::verdict_map_v6(direction)));
            [link("ip", verdict_map(direction))].into_iter().chain(v6)
        };
        let of_the_link = || if has_ipv6 { frames_v6::behind_the_bridge() } else { Vec::new() };
        let mut sent = Vec::from(known_or_counted());
        sent.extend(of_the_link());
        sent.extend([not_a_beginning(), accept("outside", vec![marked(FROM_OUTSIDE)])]);
        sent.extend(by("saddr", Direction::Egress));
        sent.push(denied());
        self.add_hooked("base_out", hook("filter", "forward", FILTER), sent);
        let mut received = Vec::from(known_or_counted());
        received.extend(of_the_link());
        received.extend(by("daddr", Direction::Ingress));
        received.extend([accept("outward", vec![marked(FROM_GUEST)]), denied()]);
        self.add_hooked("base_in", hook("filter", "forward", AFTER_FILTER), received);
        self.add_hooked("base_router", hook("filter", "input", FILTER), router(firewall));
    }

    fn add_verdict_maps(&mut self, key: &str) {
        self.add_maps(verdict_map, key);
    }

    fn add_maps(&mut self, name: fn(Direction) -> String, key: &str) {
        for direction in super::DIRECTIONS {
            let links = SetBody { map: Some(MapTo::Chains), ..set_of(&[key]) };
            self.sets.insert(name(direction), links);
        }
    }

    /// With the counters that the rules name.
    pub(super) fn add_hooked(&mut self, name: &str, hook: Hook, rules: Vec<RuleBody>) {
        let statements = rules.iter().flat_map(|rule| &rule.statements);
        self.counters.extend(statements.filter_map(|statement| match statement {
            Statement::CountIn(counter) => Some(counter.clone()),
            _ => None,
        }));
        self.chains.insert(name.to_owned(), ChainBody { hook: Some(hook), rules });
    }
}

pub(super) fn marked(mark: u32) -> Statement {
    Statement::is(Expression::Meta { key: "mark" }, Expression::Number(mark))
}

pub(super) fn hook(kind: &str, hook: &str, priority: i32) -> Hook {
    Hook { kind: kind.into(), hook: hook.into(), priority, policy: "drop".into() }
}

pub(super) fn accept(label: &str, mut conditions: Vec<Statement>) -> RuleBody {
    conditions.push(Statement::Accept(()));
    RuleBody::new(label, conditions)
}

pub(super) fn from_vpc(uplink: &FirewallUplink) -> Statement {
    let addr = uplink.vpc_cidr.network().to_string();
    let prefix = Expression::Prefix { addr, len: uplink.vpc_cidr.prefix() };
    Statement::is(payload("ip", "saddr"), prefix)
}

fn sources(firewall: &Firewall) -> Vec<RuleBody> {
    let source = Expression::Concat(vec![
        Expression::Meta { key: "iifname" },
        payload("ether", "saddr"),
        payload("ip", "saddr"),
    ]);
    let bound = Statement::is(source, Expression::text(format!("@{BOUND_SET}")));
    let mut rules = vec![accept("loopback", vec![Statement::meta("iifname", "lo")])];
    if firewall.ipv6.is_some() {
        let goto = Statement::Goto { target: SOURCES_V6.to_owned() };
        rules.push(RuleBody::new("IPv6", vec![Statement::meta("nfproto", "ipv6"), goto]));
    }
    let groups = Expression::Prefix { addr: GROUPS.to_owned(), len: 4 };
    let words = payload("ip", "hdrlength");
    let has_options = Statement::Match { op: ">", left: words, right: Expression::Number(5) };
    rules.extend([
        RuleBody::new("options", vec![has_options, Statement::Jump { target: OPTIONS.to_owned() }]),
        refused(MULTICAST, vec![Statement::is(payload("ip", "daddr"), groups)]),
        accept("bound", vec![bound]),
        accept("asks for its address", asks_for_its_address()),
        forwarders::judged_apart(Vec::new()),
    ]);
    if let Some(uplink) = &firewall.uplink {
        let outside = Statement::meta("iifname", &uplink.link);
        rules.push(refused(FORGED_OUTSIDE, vec![outside.clone(), from_vpc(uplink)]));
        rules.push(accept("outside", vec![outside, Statement::meta("nfproto", "ipv4")]));
    }
    let sender =
        Expression::Concat(vec![Expression::Meta { key: "iifname" }, payload("ether", "saddr")]);
    let unknown = Statement::is_not(sender, Expression::text(format!("@{SENDER_SET}")));
    rules.extend([refused(SPOOFED_MAC, vec![unknown]), refused(SPOOFED_SOURCE, Vec::new())]);
    rules
}

/// From nobody yet, to everybody (RFC 2131, 4.1), with the guest's own MAC.
fn asks_for_its_address() -> Vec<Statement> {
    let sender =
        Expression::Concat(vec![Expression::Meta { key: "iifname" }, payload("ether", "saddr")]);
    vec![
        Statement::is(payload("ip", "saddr"), Expression::text(Ipv4Addr::UNSPECIFIED)),
        Statement::is(payload("ip", "daddr"), Expression::text(Ipv4Addr::BROADCAST)),
        Statement::is(payload("udp", "sport"), Expression::Number(DHCP_CLIENT)),
        Statement::is(payload("udp", "dport"), Expression::Number(DHCP_SERVER)),
        Statement::is(sender, Expression::text(format!("@{SENDER_SET}"))),
    ]
}

pub(crate) fn known_connections() -> RuleBody {
    let verdicts = [
        ("established", Expression::Accept(())),
        ("related", Expression::Accept(())),
        ("invalid", Expression::Drop(())),
    ]
    .map(|(state, verdict)| Expression::pair(Expression::text(state), verdict));
    let key = Expression::Ct { key: "state" };
    RuleBody::new("known", vec![Statement::Vmap { key, data: Expression::Set(verdicts.into()) }])
}

/// The same, counted: a map's verdict counts nothing.
fn known_or_counted() -> [RuleBody; 2] {
    let verdicts = ["established", "related"]
        .map(|state| Expression::pair(Expression::text(state), Expression::Accept(())));
    let state = || Expression::Ct { key: "state" };
    let known = Statement::Vmap { key: state(), data: Expression::Set(verdicts.into()) };
    let invalid = Statement::is(state(), Expression::text("invalid"));
    [RuleBody::new("known", vec![known]), refused(INVALID, vec![invalid])]
}

/// What a server of DHCP says to a client. Ours is no machine behind a link.
pub(super) fn offers_addresses(server: u32, client: u32) -> RuleBody {
    let port = |field, number| Statement::is(payload("udp", field), Expression::Number(number));
    refused(refused::DHCP_SERVER, vec![port("sport", server), port("dport", client)])
}

/// Connection tracking takes any packet of TCP for the beginning of a connection that it does not
/// know. One that was cut would come back as the opposite one, opened by the next answer.
fn not_a_beginning() -> RuleBody {
    // FIN, SYN, RST and ACK (RFC 9293, 3.1): of these a beginning has SYN alone.
    let (looked_at, syn) = (Expression::Number(0x17), Expression::Number(0x02));
    let flags = Expression::And(Box::new([payload("tcp", "flags"), looked_at]));
    refused(INVALID, vec![Statement::is_not(flags, syn)])
}

fn forward(direction: Direction, link: &'static str, firewall: &Firewall) -> Vec<RuleBody> {
    let data = Expression::text(format!("@{}", verdict_map(direction)));
    let to_link = Statement::Vmap { key: Expression::Meta { key: link }, data };
    let mut rules = Vec::from(known_or_counted());
    rules.push(not_a_beginning());
    if direction == Direction::Egress {
        rules.extend([
            offers_addresses(DHCP_SERVER, DHCP_CLIENT),
            offers_addresses(sources_v6::DHCP_SERVER, sources_v6::DHCP_CLIENT),
        ]);
    }
    rules.push(RuleBody::new("link", vec![to_link]));
    if let Some(uplink) = &firewall.uplink {
        if direction == Direction::Ingress {
            rules.extend(forwarders::only_ours_leave(uplink, firewall.ipv6));
        }
        rules.push(accept("uplink", vec![Statement::meta(link, &uplink.link)]));
    }
    rules.push(denied());
    rules
}

/// What guests may ask the VPC's services, at exactly their addresses.
fn services(gateways: &BTreeSet<Ipv4Addr>) -> Vec<RuleBody> {
    let to = |addresses: &mut dyn Iterator<Item = Ipv4Addr>| {
        let addresses = addresses.map(Expression::text).collect();
        Statement::is(payload("ip", "daddr"), Expression::Set(addresses))
    };
    let port =
        |protocol, number| Statement::is(payload(protocol, "dport"), Expression::Number(number));
    let gateways = || gateways.iter().copied();
    let dns = || to(&mut gateways().chain([DNS_ADDRESS]));
    let from_client = Statement::is(payload("udp", "sport"), Expression::Number(DHCP_CLIENT));
    let dhcp = to(&mut gateways().chain([Ipv4Addr::BROADCAST]));
    vec![
        accept("metadata", vec![to(&mut std::iter::once(METADATA_ADDRESS)), port("tcp", HTTP)]),
        accept("names", vec![dns(), port("udp", DNS)]),
        accept("names, long answers", vec![dns(), port("tcp", DNS)]),
        accept("addresses", vec![dhcp, from_client, port("udp", DHCP_SERVER)]),
    ]
}

/// What the namespace itself answers. Its services are for guests, not for who is outside.
fn router(firewall: &Firewall) -> Vec<RuleBody> {
    let echo = vec![
        Statement::is(payload("icmp", "type"), Expression::text("echo-request")),
        Statement::Limit { rate: ECHO_PER_SECOND, per: "second" },
    ];
    let mut rules = Vec::new();
    if firewall.bridge.is_none() {
        rules.push(asks_too_often(firewall.uplink.as_ref()));
    }
    rules.extend(known_or_counted());
    rules
        .extend([accept("loopback", vec![Statement::meta("iifname", "lo")]), accept("echo", echo)]);
    // On a bridge we have no IPv6 ourselves.
    if firewall.ipv6.is_some() && firewall.bridge.is_none() {
        // Judged before, and never from farther away than the link (RFC 4861, 6.1).
        rules.push(accept("neighbours", vec![icmp(&[NEIGHBOUR_SOLICIT, NEIGHBOUR_ADVERT])]));
        let limit = Statement::Limit { rate: ECHO_PER_SECOND, per: "second" };
        rules.push(accept("echo", vec![icmp(&[ECHO_REQUEST]), limit]));
    }
    let from_outside = match (&firewall.bridge, &firewall.uplink) {
        (Some(_), _) => Some(marked(FROM_OUTSIDE)),
        (None, Some(uplink)) => Some(Statement::meta("iifname", &uplink.link)),
        (None, None) => None,
    };
    if let Some(outside) = from_outside {
        let refused = vec![outside, Statement::Counter(()), Statement::Drop(())];
        rules.push(RuleBody::new("outside", refused));
    }
    rules.extend(services(&firewall.gateways));
    rules.push(refused(NOT_A_SERVICE, Vec::new()));
    rules
}
