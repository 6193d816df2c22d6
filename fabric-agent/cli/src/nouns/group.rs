//! Security groups and their rules.

use serde_json::{Value, json};
use weft_model::{
    Direction, GroupId, GroupSpec, Object, RuleId, RulePeer, RulePorts, RuleSpec, Timestamp,
};

use super::{Noun, common_details, common_json};
use crate::output::{age, yes};

impl Noun for Object<GroupId, GroupSpec> {
    const HEADER: &'static [&'static str] = &["ID", "NAME", "VPC", "ALL-EGRESS", "DEFAULT", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.spec.name.clone(),
            self.spec.vpc_id.to_string(),
            yes(self.spec.allow_all_egress),
            yes(self.spec.is_default),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", self.spec.name.clone()),
            ("description", self.spec.description.clone()),
            ("vpc", self.spec.vpc_id.to_string()),
            ("all egress", yes(self.spec.allow_all_egress)),
            ("revoke now", yes(self.spec.revoke_now)),
            ("default", yes(self.spec.is_default)),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let specific = json!({
            "name": self.spec.name,
            "description": self.spec.description,
            "vpc_id": self.spec.vpc_id,
            "allow_all_egress": self.spec.allow_all_egress,
            "revoke_now": self.spec.revoke_now,
            "is_default": self.spec.is_default,
        });
        common_json(self, specific)
    }
}

impl Noun for Object<RuleId, RuleSpec> {
    const HEADER: &'static [&'static str] =
        &["ID", "GROUP", "DIRECTION", "PROTOCOL", "PORTS", "PEER", "DESCRIPTION"];

    fn row(&self, _now: Timestamp) -> Vec<String> {
        let spec = &self.spec;
        vec![
            self.id.to_string(),
            spec.group_id.to_string(),
            direction(spec.direction).to_owned(),
            spec.protocol.to_string(),
            ports(&spec.ports),
            peer(&spec.peer),
            spec.description.clone(),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let spec = &self.spec;
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("group", spec.group_id.to_string()),
            ("direction", direction(spec.direction).to_owned()),
            ("protocol", spec.protocol.to_string()),
            ("ports", ports(&spec.ports)),
            ("peer", peer(&spec.peer)),
            ("description", spec.description.clone()),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let spec = &self.spec;
        let (from_port, to_port) = spec.ports.as_ports();
        let said = |field| (spec.peer.field() == field).then(|| peer(&spec.peer));
        let specific = json!({
            "security_group_id": spec.group_id,
            "direction": spec.direction,
            "ip_protocol": spec.protocol,
            "from_port": from_port,
            "to_port": to_port,
            "cidr_ipv4": said("cidr_ipv4"),
            "cidr_ipv6": said("cidr_ipv6"),
            "prefix_list_id": said("prefix_list_id"),
            "referenced_security_group_id": said("referenced_security_group_id"),
            "description": spec.description,
        });
        common_json(self, specific)
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn ports(ports: &RulePorts) -> String {
    match ports {
        RulePorts::Any => "all".to_owned(),
        RulePorts::Range { from, to } if from == to => from.to_string(),
        RulePorts::Range { from, to } => format!("{from}-{to}"),
        RulePorts::Icmp { kind, code: None } => format!("type {kind}"),
        RulePorts::Icmp { kind, code: Some(code) } => format!("type {kind} code {code}"),
    }
}

fn peer(peer: &RulePeer) -> String {
    match peer {
        RulePeer::Cidr(range) => range.to_string(),
        RulePeer::Group(id) => id.to_string(),
        RulePeer::PrefixList(id) => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_people_do() {
        #[rustfmt::skip]
        let cases = [
            (RulePorts::Any,                               "all"),
            (RulePorts::Range { from: 22, to: 22 },        "22"),
            (RulePorts::Range { from: 0, to: 65535 },      "0-65535"),
            (RulePorts::Icmp { kind: 8, code: None },      "type 8"),
            (RulePorts::Icmp { kind: 3, code: Some(4) },   "type 3 code 4"),
        ];
        for (given, want) in cases {
            assert_eq!(ports(&given), want);
        }
    }
}
