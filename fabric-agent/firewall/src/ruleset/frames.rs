//! A bridge's frames, in a table of the bridge family: who may send what at which port.
//!
//! ```text
//! prerouting -460  guests' packets for the services, and what guests with a limit send, see
//!                  [`super::rates`]
//! prerouting raw   a guest's port: its own MAC and address, IPv4 and ARP only, and IPv6 where the
//!                  VPC has it, see [`super::frames_v6`]
//!                  the port to the outside: nobody that claims to be one of us
//! forward          to a guest's port: what is for its address
//! output           what the agent's services say stays inside
//! ```
//! The groups are judged after this, in the inet table, where br_netfilter shows the bridge's name
//! for every port. So frames are marked here by where they came in, and what has no mark passes
//! nowhere: without this table nothing does.
//!
//! Frames for the agent's services are led to the bridge itself, whatever MAC they were sent to: a
//! guest sends them to its router, which is a machine of the operator's.

use weft_model::{Firewall, FirewallBridge, SERVICE_ADDRESSES};

use super::base::{DHCP_CLIENT, DHCP_SERVER, accept, hook};
use super::frames_v6;
use super::{BOUND_SET, ChainBody, RuleBody, Ruleset, bound_sources, denied, payload, set_of};
use crate::json::{Expression, Family, Statement};

/// The mark of a frame that came in at its guest's port.
pub(super) const FROM_GUEST: u32 = 1;
/// The mark of a frame that came in from the operator's network.
pub(super) const FROM_OUTSIDE: u32 = 2;

/// Guests' ports with the MAC behind each.
const PORTS: &str = "bound_ports";
/// Guests' ports with the address behind each.
const TARGETS: &str = "bound_targets";
/// The MACs of all guests here.
const OWN_MACS: &str = "own_macs";
/// The addresses of all guests here, the bridge's and the services': nobody outside has them.
const OWN_ADDRESSES: &str = "own_addresses";

/// `NF_BR_PRI_NAT_DST_BRIDGED` of Linux `netfilter_bridge.h`: before br_netfilter, which is at 0.
const RAW: i32 = -300;
/// `NF_BR_PRI_FILTER_BRIDGED`, also before br_netfilter.
const FILTER: i32 = -200;

impl Ruleset {
    /// What the table beside the inet one must hold: where the VPC is a bridge, it is of the bridge
    /// family, else of the arp family.
    pub(crate) fn of_frames(firewall: &Firewall) -> (Family, Self) {
        match &firewall.bridge {
            Some(bridge) => (Family::Bridge, Self::of_bridge(bridge, firewall)),
            None => (Family::Arp, Self::of_arp(firewall)),
        }
    }

    fn of_bridge(bridge: &FirewallBridge, firewall: &Firewall) -> Self {
        let mut ruleset = Self::default();
        let sets = [
            (BOUND_SET, bound_sources()),
            (PORTS, set_of(&["ifname", "ether_addr"])),
            (TARGETS, set_of(&["ifname", "ipv4_addr"])),
            (OWN_MACS, set_of(&["ether_addr"])),
            (OWN_ADDRESSES, set_of(&["ipv4_addr"])),
        ];
        ruleset.sets = sets.into_iter().map(|(name, set)| (name.to_owned(), set)).collect();
        for (link, interface) in firewall.interfaces.iter() {
            let (link, mac) = (link.to_string(), interface.mac.to_string());
            let address = interface.address.to_string();
            let source = vec![link.clone(), mac.clone(), address.clone()];
            ruleset.add_element(BOUND_SET, source, None);
            ruleset.add_element(PORTS, vec![link.clone(), mac.clone()], None);
            ruleset.add_element(TARGETS, vec![link, address.clone()], None);
            ruleset.add_element(OWN_MACS, vec![mac], None);
            ruleset.add_element(OWN_ADDRESSES, vec![address], None);
        }
        for address in bridge.addresses.iter().chain(&SERVICE_ADDRESSES) {
            ruleset.add_element(OWN_ADDRESSES, vec![address.to_string()], None);
        }
        let has_ipv6 = firewall.ipv6.is_some();
        if has_ipv6 {
            ruleset.add_frame_sets_v6(firewall.interfaces.iter());
        }
        ruleset.add_rate_sets();
        ruleset.add_frame_rates(firewall, bridge);
        ruleset.add_hooked(
            "frames_in",
            hook("filter", "prerouting", RAW),
            incoming(bridge, has_ipv6),
        );
        if bridge.outside.is_some() {
            let outside = ChainBody { hook: None, rules: from_outside(has_ipv6) };
            ruleset.chains.insert(OUTSIDE.to_owned(), outside);
        }
        ruleset.add_hooked(
            "frames_on",
            hook("filter", "forward", FILTER),
            forward(bridge, has_ipv6),
        );
        let mut own = hook("filter", "output", FILTER);
        own.policy = "accept".to_owned();
        ruleset.add_hooked("frames_own", own, output(bridge));
        ruleset
    }
}

/// The chain for frames from the operator's network.
const OUTSIDE: &str = "frames_outside";

/// The EtherType as it is in the frame: a VLAN's tag is not taken off, as other matches do.
pub(super) fn ether_type(name: &str) -> Statement {
    Statement::is(payload("ether", "type"), Expression::text(name))
}

pub(super) fn within(parts: Vec<Expression>, set: &str) -> Statement {
    let key = match <[Expression; 1]>::try_from(parts) {
        Ok([one]) => one,
        Err(several) => Expression::Concat(several),
    };
    Statement::is(key, Expression::text(format!("@{set}")))
}

pub(super) fn iif() -> Expression {
    Expression::Meta { key: "iifname" }
}

pub(super) fn one_of(what: Expression, values: &[impl ToString]) -> Statement {
    Statement::is(
        what,
        Expression::Set(values.iter().map(|value| Expression::text(value.to_string())).collect()),
    )
}

fn port(field: &'static str, number: u32) -> Statement {
    Statement::is(payload("udp", field), Expression::Number(number))
}

pub(super) fn refused(label: &str, mut conditions: Vec<Statement>) -> RuleBody {
    conditions.extend([Statement::Counter(()), Statement::Drop(())]);
    RuleBody::new(label, conditions)
}

/// Lets a frame in, marked with where it came in.
pub(super) fn mark(label: &str, mut conditions: Vec<Statement>, mark: u32) -> RuleBody {
    conditions.push(Statement::Mangle {
        key: Expression::Meta { key: "mark" },
        value: Expression::Number(mark),
    });
    accept(label, conditions)
}

/// Lets a guest's frame in, to the bridge itself and no other port.
pub(super) fn to_us(
    label: &str,
    mut conditions: Vec<Statement>,
    bridge: &FirewallBridge,
) -> RuleBody {
    conditions.push(Statement::set(payload("ether", "daddr"), bridge.mac));
    // The kernel has judged already by the old one whether the frame is for us.
    conditions.push(Statement::set(Expression::Meta { key: "pkttype" }, "host"));
    mark(label, conditions, FROM_GUEST)
}

/// What is believed of ARP in a frame is at fixed places only for IPv4 over Ethernet.
pub(super) fn arp() -> Vec<Statement> {
    let number = |field, value| Statement::is(payload("arp", field), Expression::Number(value));
    vec![number("htype", 1), number("hlen", 6), number("plen", 4)]
}

pub(super) fn arp_operation(names: &[&str]) -> Statement {
    one_of(payload("arp", "operation"), names)
}

/// The same in a frame of a bridge, asking or answering.
fn arp_frame() -> Vec<Statement> {
    let mut conditions = vec![ether_type("arp")];
    conditions.extend(arp());
    conditions.push(arp_operation(&["request", "reply"]));
    conditions
}

fn incoming(bridge: &FirewallBridge, has_ipv6: bool) -> Vec<RuleBody> {
    let mut rules = Vec::new();
    if let Some(outside) = &bridge.outside {
        let goto = Statement::Goto { target: OUTSIDE.to_owned() };
        rules.push(RuleBody::new("outside", vec![Statement::meta("iifname", outside), goto]));
    }
    let sender = |field| within(vec![iif(), payload("ether", "saddr"), field], BOUND_SET);
    let ether_sender = || within(vec![iif(), payload("ether", "saddr")], PORTS);
    let ip = |rest: Vec<Statement>| {
        let mut all = vec![ether_type("ip"), sender(payload("ip", "saddr"))];
        all.extend(rest);
        all
    };
    let ask = || vec![port("sport", DHCP_CLIENT), port("dport", DHCP_SERVER)];

    // A client without an address yet, and one that asks whoever it is that serves.
    let mut discover = vec![ether_type("ip"), ether_sender()];
    discover.push(Statement::is(payload("ip", "saddr"), Expression::text("0.0.0.0")));
    discover.push(Statement::is(payload("ip", "daddr"), Expression::text("255.255.255.255")));
    discover.extend(ask());
    rules.push(to_us("dhcp", discover, bridge));
    let mut rebind = ask();
    rebind.push(Statement::is(payload("ip", "daddr"), Expression::text("255.255.255.255")));
    rules.push(to_us("dhcp-again", ip(rebind), bridge));
    let offer = vec![port("sport", DHCP_SERVER), port("dport", DHCP_CLIENT)];
    rules.push(refused("dhcp-server", ip(offer)));
    rules.push(to_us(
        "services",
        ip(vec![one_of(payload("ip", "daddr"), &SERVICE_ADDRESSES)]),
        bridge,
    ));
    rules.push(mark("bound", ip(Vec::new()), FROM_GUEST));

    let mut named = arp_frame();
    named.push(sender(payload("arp", "saddr ip")));
    named.push(within(vec![iif(), payload("arp", "saddr ether")], PORTS));
    let mut services = named.clone();
    services.push(one_of(payload("arp", "daddr ip"), &SERVICE_ADDRESSES));
    rules.push(to_us("arp-services", services, bridge));
    rules.push(mark("arp", named, FROM_GUEST));
    // "Is anybody using this address?" (RFC 5227): from nobody.
    let mut probe = arp_frame();
    probe.push(ether_sender());
    probe.push(within(vec![iif(), payload("arp", "saddr ether")], PORTS));
    probe.push(Statement::is(payload("arp", "saddr ip"), Expression::text("0.0.0.0")));
    rules.push(mark("arp-probe", probe, FROM_GUEST));
    if has_ipv6 {
        rules.extend(frames_v6::from_guests(ether_sender, bridge));
    }
    rules.push(denied());
    rules
}

fn from_outside(has_ipv6: bool) -> Vec<RuleBody> {
    let dhcp = one_of(payload("udp", "dport"), &[DHCP_SERVER, DHCP_CLIENT]);
    let mut claim = arp_frame();
    claim.push(within(vec![payload("arp", "saddr ip")], OWN_ADDRESSES));
    let mut services = arp_frame();
    services.push(one_of(payload("arp", "daddr ip"), &SERVICE_ADDRESSES));
    let mut rules = vec![
        refused("forged-mac", vec![within(vec![payload("ether", "saddr")], OWN_MACS)]),
        refused(
            "forged",
            vec![ether_type("ip"), within(vec![payload("ip", "saddr")], OWN_ADDRESSES)],
        ),
        refused("forged-arp", claim),
        refused(
            "services",
            vec![ether_type("ip"), one_of(payload("ip", "daddr"), &SERVICE_ADDRESSES)],
        ),
        refused("arp-services", services),
        // Addresses come from us, and ours are for our guests only.
        refused("dhcp", vec![ether_type("ip"), dhcp]),
        mark("ip", vec![ether_type("ip")], FROM_OUTSIDE),
        mark("arp", arp_frame(), FROM_OUTSIDE),
    ];
    if has_ipv6 {
        rules.extend(frames_v6::from_outside());
    }
    rules.push(denied());
    rules
}

/// The bridge sends unknown and many-cast frames to every port; a guest gets its own.
fn forward(bridge: &FirewallBridge, has_ipv6: bool) -> Vec<RuleBody> {
    let oif = Expression::Meta { key: "oifname" };
    let target = within(vec![oif, payload("ip", "daddr")], TARGETS);
    let mut rules = vec![accept("target", vec![ether_type("ip"), target])];
    if let Some(outside) = &bridge.outside {
        let outward = || Statement::meta("oifname", outside);
        rules.push(accept("outward", vec![outward(), ether_type("ip")]));
    }
    rules.push(accept("arp", vec![ether_type("arp")]));
    if has_ipv6 {
        rules.extend(frames_v6::forward(bridge.outside.as_ref()));
    }
    rules.push(denied());
    rules
}

fn output(bridge: &FirewallBridge) -> Vec<RuleBody> {
    let Some(outside) = &bridge.outside else { return Vec::new() };
    let outward = || vec![Statement::meta("oifname", outside), ether_type("ip")];
    let (mut dhcp, mut services) = (outward(), outward());
    dhcp.push(port("sport", DHCP_SERVER));
    services.push(one_of(payload("ip", "saddr"), &SERVICE_ADDRESSES));
    vec![refused("dhcp", dhcp), refused("services", services), frames_v6::output(outside)]
}
