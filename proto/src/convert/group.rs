//! Security groups and their rules.

use ipnetwork::IpNetwork;
use weft_model::{
    Direction, GroupId, GroupOrder, GroupSpec, Name, Object, Problem, RuleId, RulePeer, RulePorts,
    RuleSpec,
};

use super::object::{object_from_wire, object_to_wire};
use super::{parse, parse_word, required};
use crate::v1;
use v1::security_group_rule_spec::Peer;

/// The longest description, in characters, as in EC2.
const MAX_DESCRIPTION_CHARS: usize = 255;

pub(super) fn description_from_wire(text: String) -> Result<String, Problem> {
    if text.chars().count() > MAX_DESCRIPTION_CHARS || text.chars().any(char::is_control) {
        return Err(Problem::invalid(
            "description",
            "the description is long or has control characters",
        )
        .remedy(format!("use at most {MAX_DESCRIPTION_CHARS} printable characters")));
    }
    Ok(text)
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn group_order_from_wire(spec: Option<v1::SecurityGroupSpec>) -> Result<GroupOrder, Problem> {
    let v1::SecurityGroupSpec { name, description, vpc_id, allow_all_egress, revoke_now } =
        required("spec", spec)?;
    Ok(GroupOrder {
        name: parse::<Name>("name", &name)?.to_string(),
        description: description_from_wire(description)?,
        vpc_id: vpc_id.map(|text| parse("vpc_id", &text)).transpose()?,
        allow_all_egress,
        revoke_now,
    })
}

/// The wire's form of `order`.
pub fn group_order_to_wire(order: GroupOrder) -> v1::SecurityGroupSpec {
    v1::SecurityGroupSpec {
        name: order.name,
        description: order.description,
        vpc_id: order.vpc_id.map(|id| id.to_string()),
        allow_all_egress: order.allow_all_egress,
        revoke_now: order.revoke_now,
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn group_from_wire(wire: v1::SecurityGroup) -> Result<Object<GroupId, GroupSpec>, Problem> {
    let v1::SecurityGroup { metadata, spec, is_default } = wire;
    let order = group_order_from_wire(spec)?;
    let vpc_id = required("vpc_id", order.vpc_id)?;
    object_from_wire(
        metadata,
        GroupSpec {
            name: order.name,
            description: order.description,
            vpc_id,
            allow_all_egress: order.allow_all_egress,
            revoke_now: order.revoke_now,
            is_default,
        },
    )
}

/// The wire's form of `object`.
pub fn group_to_wire(object: Object<GroupId, GroupSpec>) -> v1::SecurityGroup {
    let (metadata, spec) = object_to_wire(object);
    let GroupSpec { name, description, vpc_id, allow_all_egress, revoke_now, is_default } = spec;
    let order =
        GroupOrder { name, description, vpc_id: Some(vpc_id), allow_all_egress, revoke_now };
    v1::SecurityGroup {
        metadata: Some(metadata),
        spec: Some(group_order_to_wire(order)),
        is_default,
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong: protocol, ports, range or peer.
pub fn rule_spec_from_wire(spec: Option<v1::SecurityGroupRuleSpec>) -> Result<RuleSpec, Problem> {
    let v1::SecurityGroupRuleSpec {
        security_group_id,
        direction,
        ip_protocol,
        from_port,
        to_port,
        peer,
        description,
    } = required("spec", spec)?;
    let direction = match v1::RuleDirection::try_from(direction) {
        Ok(v1::RuleDirection::Ingress) => Direction::Ingress,
        Ok(v1::RuleDirection::Egress) => Direction::Egress,
        _ => return Err(Problem::invalid("direction", "the rule's direction is missing")),
    };
    let protocol = parse_word("ip_protocol", &ip_protocol)?;
    let peer = match required("cidr_ipv4", peer)? {
        Peer::CidrIpv4(text) => RulePeer::Cidr(weft_model::parse_cidr("cidr_ipv4", &text)?.into()),
        Peer::CidrIpv6(text) => {
            RulePeer::Cidr(weft_model::parse_cidr_v6("cidr_ipv6", &text)?.into())
        }
        Peer::PrefixListId(text) => RulePeer::PrefixList(parse("prefix_list_id", &text)?),
        Peer::ReferencedSecurityGroupId(text) => {
            RulePeer::Group(parse("referenced_security_group_id", &text)?)
        }
    };
    let spec = RuleSpec {
        group_id: parse("security_group_id", &security_group_id)?,
        direction,
        protocol,
        ports: RulePorts::parse(protocol, from_port, to_port)?,
        peer,
        description: description_from_wire(description)?,
    };
    spec.peer.check_family(protocol)?;
    Ok(spec)
}

/// The wire's form of `spec`.
pub fn rule_spec_to_wire(spec: RuleSpec) -> v1::SecurityGroupRuleSpec {
    let (from_port, to_port) = spec.ports.as_ports();
    let direction = match spec.direction {
        Direction::Ingress => v1::RuleDirection::Ingress,
        Direction::Egress => v1::RuleDirection::Egress,
    };
    v1::SecurityGroupRuleSpec {
        security_group_id: spec.group_id.to_string(),
        direction: direction.into(),
        ip_protocol: spec.protocol.to_string(),
        from_port,
        to_port,
        peer: Some(match spec.peer {
            RulePeer::Cidr(range @ IpNetwork::V4(_)) => Peer::CidrIpv4(range.to_string()),
            RulePeer::Cidr(range @ IpNetwork::V6(_)) => Peer::CidrIpv6(range.to_string()),
            RulePeer::Group(group) => Peer::ReferencedSecurityGroupId(group.to_string()),
            RulePeer::PrefixList(list) => Peer::PrefixListId(list.to_string()),
        }),
        description: spec.description,
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn rule_from_wire(wire: v1::SecurityGroupRule) -> Result<Object<RuleId, RuleSpec>, Problem> {
    let v1::SecurityGroupRule { metadata, spec } = wire;
    object_from_wire(metadata, rule_spec_from_wire(spec)?)
}

/// The wire's form of `object`.
pub fn rule_to_wire(object: Object<RuleId, RuleSpec>) -> v1::SecurityGroupRule {
    let (metadata, spec) = object_to_wire(object);
    v1::SecurityGroupRule { metadata: Some(metadata), spec: Some(rule_spec_to_wire(spec)) }
}
