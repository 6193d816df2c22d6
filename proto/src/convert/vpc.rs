//! VPCs and subnets.

use weft_model::{Object, Problem, SubnetId, SubnetSpec, VpcId, VpcSpec, parse_cidr};

use super::object::{object_from_wire, object_to_wire};
use super::parse;
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn vpc_from_wire(wire: v1::Vpc) -> Result<Object<VpcId, VpcSpec>, Problem> {
    let v1::Vpc { metadata, name, cidr_block, default_security_group_id, is_default } = wire;
    object_from_wire(
        metadata,
        VpcSpec {
            name,
            cidr_block: parse_cidr("cidr_block", &cidr_block)?,
            default_group_id: parse("default_security_group_id", &default_security_group_id)?,
            is_default,
            // How the agent wires it up is not a client's business.
            uplink_index: 0,
        },
    )
}

/// The wire's form of `object`.
pub fn vpc_to_wire(object: Object<VpcId, VpcSpec>) -> v1::Vpc {
    let (metadata, spec) = object_to_wire(object);
    let VpcSpec { name, cidr_block, default_group_id, is_default, uplink_index: _ } = spec;
    v1::Vpc {
        metadata: Some(metadata),
        name,
        cidr_block: cidr_block.to_string(),
        default_security_group_id: default_group_id.to_string(),
        is_default,
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn subnet_from_wire(wire: v1::Subnet) -> Result<Object<SubnetId, SubnetSpec>, Problem> {
    let v1::Subnet { metadata, name, vpc_id, cidr_block, gateway_ip, dns_servers, is_default } =
        wire;
    let dns_servers = dns_servers.iter().map(|text| parse("dns_servers", text));
    object_from_wire(
        metadata,
        SubnetSpec {
            name,
            vpc_id: parse("vpc_id", &vpc_id)?,
            cidr_block: parse_cidr("cidr_block", &cidr_block)?,
            gateway: parse("gateway_ip", &gateway_ip)?,
            dns_servers: dns_servers.collect::<Result<_, _>>()?,
            is_default,
        },
    )
}

/// The wire's form of `object`.
pub fn subnet_to_wire(object: Object<SubnetId, SubnetSpec>) -> v1::Subnet {
    let (metadata, spec) = object_to_wire(object);
    let SubnetSpec { name, vpc_id, cidr_block, gateway, dns_servers, is_default } = spec;
    v1::Subnet {
        metadata: Some(metadata),
        name,
        vpc_id: vpc_id.to_string(),
        cidr_block: cidr_block.to_string(),
        gateway_ip: gateway.to_string(),
        dns_servers: dns_servers.iter().map(ToString::to_string).collect(),
        is_default,
    }
}
