//! A security group: the set of its members, and a chain per direction with one nft rule per rule
//! and family; each rule has a named counter of its own.

use ipnetwork::IpNetwork;
use weft_model::{
    AddressFamily, Direction, Firewall, FirewallGroup, GroupId, IpProtocol, RulePeer, RulePorts,
    RuleSpec,
};

use super::{
    ChainBody, DIRECTIONS, RuleBody, Ruleset, all_egress_counter, group_chain, member_set,
    member_set_v6, payload, prefix_set, rule_counter,
};
use crate::json::{Expression, Statement};

impl Ruleset {
    /// What its rules count in.
    pub(super) fn add_counters(&mut self, id: &GroupId, group: &FirewallGroup) {
        self.counters.extend(group.rules.keys().map(rule_counter));
        self.counters.extend(group.allow_all_egress.then(|| all_egress_counter(id)));
    }

    /// `has_members`: without them the set is there and empty.
    pub(super) fn add_group(
        &mut self,
        id: &GroupId,
        group: &FirewallGroup,
        has_members: bool,
        all: &Firewall,
    ) {
        let mut members = super::set_of(&["ipv4_addr"]);
        if has_members {
            let elements = group.members.iter().map(|address| (vec![address.to_string()], None));
            members.elements = elements.collect();
        }
        self.sets.insert(member_set(id), members);
        if all.ipv6.is_some() {
            let mut members = super::set_of(&["ipv6_addr"]);
            if has_members {
                let addresses = group.members_v6.iter();
                members.elements =
                    addresses.map(|address| (vec![address.to_string()], None)).collect();
            }
            self.sets.insert(member_set_v6(id), members);
        }
        for direction in DIRECTIONS {
            let specs = group.rules.iter().filter(|(_, spec)| spec.direction == direction);
            let mut rules = Vec::new();
            for (rule_id, spec) in specs {
                let counter = rule_counter(rule_id);
                let bodies = conditions(spec, all).into_iter().map(|mut statements| {
                    let count = Statement::CountIn(counter.clone());
                    statements.extend([count, Statement::Accept(())]);
                    RuleBody::new(rule_id.as_str(), statements)
                });
                rules.extend(bodies);
            }
            if direction == Direction::Egress && group.allow_all_egress {
                let counter = all_egress_counter(id);
                let all = vec![Statement::CountIn(counter), Statement::Accept(())];
                rules.push(RuleBody::new("all-egress", all));
            }
            self.chains.insert(group_chain(id, direction), ChainBody { hook: None, rules });
        }
    }
}

/// The conditions of the nft rules that make one rule: none where no packet can match, one per
/// family where the peer has addresses of both.
fn conditions(spec: &RuleSpec, all: &Firewall) -> Vec<Vec<Statement>> {
    let families = peer(spec, all).into_iter();
    families
        .filter_map(|(family, peer)| {
            let mut conditions = vec![peer];
            service(spec, family, &mut conditions).then_some(conditions)
        })
        .collect()
}

/// Of the IP packet that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    /// As nft names the header, and the value of `meta nfproto`.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::V4 => ("ip", "ipv4"),
            Self::V6 => ("ip6", "ipv6"),
        }
    }
}

/// The condition for the far end, per family.
fn peer(spec: &RuleSpec, all: &Firewall) -> Vec<(IpFamily, Statement)> {
    let field = match spec.direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    };
    let is = |family: IpFamily, right| Statement::is(payload(family.names().0, field), right);
    match &spec.peer {
        RulePeer::Cidr(range) => {
            let (family, bits) = match range {
                IpNetwork::V4(_) => (IpFamily::V4, 32),
                IpNetwork::V6(_) => (IpFamily::V6, 128),
            };
            let condition = match range.prefix() {
                0 => Statement::meta("nfproto", family.names().1),
                prefix if prefix == bits => is(family, Expression::text(range.ip())),
                len => is(family, Expression::Prefix { addr: range.network().to_string(), len }),
            };
            vec![(family, condition)]
        }
        RulePeer::Group(id) if all.groups.contains_key(id) => {
            let in_set =
                |family, set: String| (family, is(family, Expression::text(format!("@{set}"))));
            let v6 = all.ipv6.is_some().then(|| in_set(IpFamily::V6, member_set_v6(id)));
            std::iter::once(in_set(IpFamily::V4, member_set(id))).chain(v6).collect()
        }
        RulePeer::PrefixList(id) => {
            let list = all.prefix_lists.get(id);
            let family = list.map(|list| match list.family {
                AddressFamily::Ipv4 => IpFamily::V4,
                AddressFamily::Ipv6 => IpFamily::V6,
            });
            let set = Expression::text(format!("@{}", prefix_set(id)));
            family.map(|family| (family, is(family, set))).into_iter().collect()
        }
        RulePeer::Group(_) => Vec::new(),
    }
}

/// The condition for what is above IP; `false` where no packet of the family matches.
fn service(spec: &RuleSpec, family: IpFamily, out: &mut Vec<Statement>) -> bool {
    let (number, name) = match spec.protocol {
        IpProtocol::All => return spec.ports == RulePorts::Any,
        // ICMP of one family in packets of the other is nothing that a guest understands.
        IpProtocol::Icmp if family == IpFamily::V4 => (1, "icmp"),
        IpProtocol::Icmpv6 if family == IpFamily::V6 => (58, "icmpv6"),
        IpProtocol::Icmp | IpProtocol::Icmpv6 => return false,
        IpProtocol::Tcp => (6, "tcp"),
        IpProtocol::Udp => (17, "udp"),
        IpProtocol::Other(number) => (number, "other"),
    };
    let has_ports = matches!(spec.protocol, IpProtocol::Tcp | IpProtocol::Udp);
    let is_icmp = matches!(spec.protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
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
        RulePorts::Icmp { kind, code } if is_icmp => {
            out.push(Statement::is(payload(name, "type"), Expression::Number(kind.into())));
            if let Some(code) = code {
                out.push(Statement::is(payload(name, "code"), Expression::Number(code.into())));
            }
        }
        RulePorts::Range { .. } | RulePorts::Icmp { .. } => return false,
    }
    true
}
