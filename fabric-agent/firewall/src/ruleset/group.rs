//! A security group: the set of its members, and a chain per direction with one nft rule, and so
//! one counter, per rule.

use std::collections::BTreeMap;

use weft_model::{Direction, FirewallGroup, GroupId, IpProtocol, RulePeer, RulePorts, RuleSpec};

use super::{ChainBody, DIRECTIONS, RuleBody, Ruleset, group_chain, member_set, payload};
use crate::json::{Expression, Statement};

type Groups = BTreeMap<GroupId, FirewallGroup>;

impl Ruleset {
    /// `has_members`: without them the set is there and empty.
    pub(super) fn add_group(
        &mut self,
        id: &GroupId,
        group: &FirewallGroup,
        has_members: bool,
        all: &Groups,
    ) {
        let mut members = super::set_of(&["ipv4_addr"]);
        if has_members {
            let elements = group.members.iter().map(|address| (vec![address.to_string()], None));
            members.elements = elements.collect();
        }
        self.sets.insert(member_set(id), members);
        for direction in DIRECTIONS {
            let specs = group.rules.iter().filter(|(_, spec)| spec.direction == direction);
            let mut rules: Vec<_> = specs
                .map(|(rule_id, spec)| RuleBody::new(rule_id.as_str(), statements(spec, all)))
                .collect();
            if direction == Direction::Egress && group.allow_all_egress {
                let all = vec![Statement::Counter(()), Statement::Accept(())];
                rules.push(RuleBody::new("all-egress", all));
            }
            self.chains.insert(group_chain(id, direction), ChainBody { hook: None, rules });
        }
    }
}

/// One nft rule. A rule that can match no IPv4 packet counts what it sees and admits nothing.
fn statements(spec: &RuleSpec, groups: &Groups) -> Vec<Statement> {
    let mut all = Vec::new();
    let possible = peer(spec, groups, &mut all) && service(spec, &mut all);
    if !possible {
        return vec![Statement::Counter(())];
    }
    all.extend([Statement::Counter(()), Statement::Accept(())]);
    all
}

fn peer(spec: &RuleSpec, groups: &Groups, out: &mut Vec<Statement>) -> bool {
    let field = match spec.direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    };
    match &spec.peer {
        RulePeer::Cidr(range) if range.prefix() == 0 => {
            out.push(Statement::meta("nfproto", "ipv4"));
        }
        RulePeer::Cidr(range) if range.prefix() == 32 => {
            out.push(Statement::is(payload("ip", field), Expression::text(range.ip())));
        }
        RulePeer::Cidr(range) => {
            let addr = range.network().to_string();
            let prefix = Expression::Prefix { addr, len: range.prefix() };
            out.push(Statement::is(payload("ip", field), prefix));
        }
        RulePeer::Group(id) if groups.contains_key(id) => {
            let members = Expression::text(format!("@{}", member_set(id)));
            out.push(Statement::is(payload("ip", field), members));
        }
        RulePeer::Group(_) => return false,
    }
    true
}

fn service(spec: &RuleSpec, out: &mut Vec<Statement>) -> bool {
    let (number, name) = match spec.protocol {
        IpProtocol::All => return spec.ports == RulePorts::Any,
        // IPv6's ICMP in an IPv4 packet is nothing that a guest understands.
        IpProtocol::Icmpv6 => return false,
        IpProtocol::Icmp => (1, "icmp"),
        IpProtocol::Tcp => (6, "tcp"),
        IpProtocol::Udp => (17, "udp"),
        IpProtocol::Other(number) => (number, "other"),
    };
    let has_ports = matches!(spec.protocol, IpProtocol::Tcp | IpProtocol::Udp);
    match spec.ports {
        RulePorts::Any | RulePorts::Range { from: 0, to: u16::MAX } => {
            let protocol = Expression::Meta { key: "l4proto" };
            out.push(Statement::is(protocol, Expression::Number(number.into())));
        }
        RulePorts::Range { from, to } if has_ports => {
            let right = if from == to {
                Expression::Number(from.into())
            } else {
                let ends = [from, to].map(|port| Expression::Number(port.into()));
                Expression::Range(Box::new(ends))
            };
            out.push(Statement::is(payload(name, "dport"), right));
        }
        RulePorts::Icmp { kind, code } if spec.protocol == IpProtocol::Icmp => {
            out.push(Statement::is(payload("icmp", "type"), Expression::Number(kind.into())));
            if let Some(code) = code {
                out.push(Statement::is(payload("icmp", "code"), Expression::Number(code.into())));
            }
        }
        RulePorts::Range { .. } | RulePorts::Icmp { .. } => return false,
    }
    true
}
