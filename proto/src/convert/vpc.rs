//! VPCs and subnets.

use ipnetwork::Ipv6Network;
use weft_model::{
    Name, Object, Problem, SubnetId, SubnetOrder, SubnetSpec, VpcId, VpcMode, VpcOrder, VpcSpec,
    parse_cidr, parse_cidr_v6,
};

use super::object::{object_from_wire, object_to_wire};
use super::{parse, parse_word, required};
use crate::v1;

fn ipv6_from_wire(text: Option<String>) -> Result<Option<Ipv6Network>, Problem> {
    text.map(|text| parse_cidr_v6("ipv6_cidr_block", &text)).transpose()
}

fn vlan_from_wire(id: u32) -> Result<u16, Problem> {
    u16::try_from(id)
        .map_err(|_| Problem::invalid("vlan_id", format!("{id} is not the number of a VLAN")))
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn vpc_order_from_wire(spec: Option<v1::VpcSpec>) -> Result<VpcOrder, Problem> {
    let v1::VpcSpec { name, cidr_block, ipv6_cidr_block, mode, bridge_name, uplink, vlan_id } =
        required("spec", spec)?;
    Ok(VpcOrder {
        name: parse::<Name>("name", &name)?.to_string(),
        cidr_block: parse_cidr("cidr_block", &cidr_block)?,
        ipv6_cidr_block: ipv6_from_wire(ipv6_cidr_block)?,
        mode: match mode.as_str() {
            "" => VpcMode::default(),
            word => parse_word("mode", word)?,
        },
        bridge_name: bridge_name.map(|text| parse("bridge_name", &text)).transpose()?,
        uplink: uplink.map(|text| parse("uplink", &text)).transpose()?,
        vlan_id: vlan_id.map(vlan_from_wire).transpose()?,
    })
}

/// The wire's form of `order`.
pub fn vpc_order_to_wire(order: VpcOrder) -> v1::VpcSpec {
    let VpcOrder { name, cidr_block, ipv6_cidr_block, mode, bridge_name, uplink, vlan_id } = order;
    v1::VpcSpec {
        name,
        cidr_block: cidr_block.to_string(),
        ipv6_cidr_block: ipv6_cidr_block.map(|range| range.to_string()),
        mode: mode.to_string(),
        bridge_name: bridge_name.map(|link| link.to_string()),
        uplink: uplink.map(|link| link.to_string()),
        vlan_id: vlan_id.map(u32::from),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn vpc_from_wire(wire: v1::Vpc) -> Result<Object<VpcId, VpcSpec>, Problem> {
    let v1::Vpc { metadata, spec, default_security_group_id, is_default } = wire;
    let VpcOrder { name, cidr_block, ipv6_cidr_block, mode, bridge_name, uplink, vlan_id } =
        vpc_order_from_wire(spec)?;
    object_from_wire(
        metadata,
        VpcSpec {
            name,
            cidr_block,
            ipv6_cidr_block,
            mode,
            bridge_name,
            uplink,
            vlan_id,
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
    let VpcSpec {
        name,
        cidr_block,
        ipv6_cidr_block,
        mode,
        bridge_name,
        uplink,
        vlan_id,
        default_group_id,
        is_default,
        uplink_index: _,
    } = spec;
    v1::Vpc {
        metadata: Some(metadata),
        spec: Some(vpc_order_to_wire(VpcOrder {
            name,
            cidr_block,
            ipv6_cidr_block,
            mode,
            bridge_name,
            uplink,
            vlan_id,
        })),
        default_security_group_id: default_group_id.to_string(),
        is_default,
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn subnet_order_from_wire(spec: Option<v1::SubnetSpec>) -> Result<SubnetOrder, Problem> {
    let v1::SubnetSpec {
        name,
        vpc_id,
        cidr_block,
        ipv6_cidr_block,
        gateway_ip,
        dns_servers,
        map_public_ip_on_launch: map_public_ip,
    } = required("spec", spec)?;
    let dns_servers = dns_servers.iter().map(|text| parse("dns_servers", text));
    Ok(SubnetOrder {
        name: parse::<Name>("name", &name)?.to_string(),
        vpc_id: parse("vpc_id", &vpc_id)?,
        cidr_block: parse_cidr("cidr_block", &cidr_block)?,
        ipv6_cidr_block: ipv6_from_wire(ipv6_cidr_block)?,
        gateway: gateway_ip.map(|text| parse("gateway_ip", &text)).transpose()?,
        dns_servers: dns_servers.collect::<Result<_, _>>()?,
        map_public_ip,
    })
}

/// The wire's form of `order`.
pub fn subnet_order_to_wire(order: SubnetOrder) -> v1::SubnetSpec {
    let SubnetOrder {
        name,
        vpc_id,
        cidr_block,
        ipv6_cidr_block,
        gateway,
        dns_servers,
        map_public_ip,
    } = order;
    v1::SubnetSpec {
        name,
        vpc_id: vpc_id.to_string(),
        cidr_block: cidr_block.to_string(),
        ipv6_cidr_block: ipv6_cidr_block.map(|range| range.to_string()),
        gateway_ip: gateway.map(|address| address.to_string()),
        dns_servers: dns_servers.iter().map(ToString::to_string).collect(),
        map_public_ip_on_launch: map_public_ip,
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn subnet_from_wire(wire: v1::Subnet) -> Result<Object<SubnetId, SubnetSpec>, Problem> {
    let v1::Subnet { metadata, spec, is_default } = wire;
    let SubnetOrder {
        name,
        vpc_id,
        cidr_block,
        ipv6_cidr_block,
        gateway,
        dns_servers,
        map_public_ip,
    } = subnet_order_from_wire(spec)?;
    let gateway = required("gateway_ip", gateway)?;
    object_from_wire(
        metadata,
        SubnetSpec {
            name,
            vpc_id,
            cidr_block,
            ipv6_cidr_block,
            gateway,
            dns_servers,
            map_public_ip,
            is_default,
        },
    )
}

/// The wire's form of `object`.
pub fn subnet_to_wire(object: Object<SubnetId, SubnetSpec>) -> v1::Subnet {
    let (metadata, spec) = object_to_wire(object);
    let SubnetSpec {
        name,
        vpc_id,
        cidr_block,
        ipv6_cidr_block,
        gateway,
        dns_servers,
        map_public_ip,
        is_default,
    } = spec;
    let gateway = Some(gateway);
    let order = SubnetOrder {
        name,
        vpc_id,
        cidr_block,
        ipv6_cidr_block,
        gateway,
        dns_servers,
        map_public_ip,
    };
    v1::Subnet { metadata: Some(metadata), spec: Some(subnet_order_to_wire(order)), is_default }
}
